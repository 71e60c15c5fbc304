"""ComfyUI workflows as data: a graph in API format, and bindings that say which inputs take a task's values.

    workflow = load_builtin("sdxl_txt2img")                 # or: load_files(path, bindings_path)
    workflow = apply_overrides(workflow, {"3": {"inputs": {"cfg": 4.5}}})
    graph = fill(workflow, task, seed=task.seeds[0], files=TaskFiles(model="sdxl.safetensors"))

`graph` is JSON for the `prompt` of ComfyUI's `POST /prompt`, or for the corresponding field of another
service. The caller sends it, and uploads the images that it loads.
"""

from atelier_engines.workflows.capabilities import (
    find_fixed_model,
    list_schedulers,
    max_loras,
    supported_features,
)
from atelier_engines.workflows.errors import WorkflowError
from atelier_engines.workflows.filling import ControlFile, TaskFiles, fill
from atelier_engines.workflows.request_overrides import (
    apply_request_overrides,
    build_overrides_schema,
)
from atelier_engines.workflows.workflow import (
    Mode,
    Workflow,
    apply_overrides,
    list_builtins,
    load_builtin,
    load_files,
    parse_workflow,
    required_mode,
)

__all__ = [
    "ControlFile",
    "Mode",
    "TaskFiles",
    "Workflow",
    "WorkflowError",
    "apply_overrides",
    "apply_request_overrides",
    "build_overrides_schema",
    "fill",
    "find_fixed_model",
    "list_builtins",
    "list_schedulers",
    "load_builtin",
    "load_files",
    "max_loras",
    "parse_workflow",
    "required_mode",
    "supported_features",
]
