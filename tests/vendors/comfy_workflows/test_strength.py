"""A workflow without a place for the strength: receipts say that it has no effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.workflows import load_builtin
from atelier_engines.workflows.graph import graph_to_json


def save(folder: Path, mode: str, *, strength: bool) -> dict[str, str]:
    """The built-in workflow of that mode, with or without a place for the strength; returns the files."""
    shipped = load_builtin(f"sdxl_{mode}")
    bindings = shipped.bindings.model_dump(mode="json", exclude_none=True)
    if not strength:
        del bindings["slots"]["strength"]
    files = {"graph": graph_to_json(shipped.graph), "bindings": bindings}
    for name, content in files.items():
        (folder / f"{mode}.{name}.json").write_text(json.dumps(content))
    return {name: str(folder / f"{mode}.{name}.json") for name in files}


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("mode", ["img2img", "inpaint"])
def test_a_workflow_that_takes_no_strength_ignores_it(
    tmp_path: Path, mode: str, *, takes: bool
) -> None:
    """With a mask, or without one."""
    workflows = {
        "txt2img": save(tmp_path, "txt2img", strength=True),
        mode: save(tmp_path, mode, strength=takes),
    }
    config = WorkflowSetConfig.model_validate({"workflows": workflows})
    found = WorkflowSet.load(config).capabilities(max_images=1)
    assert found.ignores_strength == (not takes and mode == "img2img")
    assert found.inpainting_ignores_strength == (not takes and mode == "inpaint")
