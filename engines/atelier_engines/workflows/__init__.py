"""ComfyUI workflows as data: a graph in API format, and bindings that say where a task's values go.

    workflow = builtin("sdxl_txt2img")                      # or: from_files(path, bindings_path)
    workflow = customised(workflow, {"3": {"inputs": {"cfg": 4.5}}})
    graph = filled(workflow, task, seed=task.seeds[0], files=Files(model="sdxl.safetensors"))

`graph` is JSON for the `prompt` of ComfyUI's `POST /prompt`, or whatever a vendor calls it. Who sends it,
and how pictures get to the vendor, is the caller's business.
"""

from atelier_engines.workflows.capabilities import features, most_loras, schedulers
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.filling import ControlFile, Files, filled
from atelier_engines.workflows.workflow import (
    Mode,
    Workflow,
    builtin,
    customised,
    from_files,
    from_json,
    mode_of,
)

__all__ = [
    "ControlFile",
    "Files",
    "Mode",
    "Workflow",
    "WorkflowError",
    "builtin",
    "customised",
    "features",
    "filled",
    "from_files",
    "from_json",
    "mode_of",
    "most_loras",
    "schedulers",
]
