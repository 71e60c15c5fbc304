"""Workflows that lack a place for the strength, or for the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from atelier_engines.conformance.tasks import random_image
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.workflows import load_builtin
from atelier_engines.workflows.graph import graph_to_json

TASK = ImageTask(
    prompt="a lighthouse", width=64, height=64, seeds=(1,), steps=4, guidance=5.0, scheduler="euler"
)


def save(folder: Path, mode: str, *, without: str = "") -> dict[str, str]:
    """The built-in workflow of that mode, without a place for one value; returns the files."""
    shipped = load_builtin(f"sdxl_{mode}")
    bindings = shipped.bindings.model_dump(mode="json", exclude_none=True)
    bindings["slots"].pop(without, None)
    files = {"graph": graph_to_json(shipped.graph), "bindings": bindings}
    for name, content in files.items():
        (folder / f"{mode}.{name}.json").write_text(json.dumps(content))
    return {name: str(folder / f"{mode}.{name}.json") for name in files}


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("mode", ["img2img", "inpaint"])
def test_a_workflow_that_takes_no_strength_ignores_it(
    tmp_path: Path, mode: str, *, takes: bool
) -> None:
    """With a mask, or without one: the receipt says so, and the task runs all the same."""
    workflows = {
        "txt2img": save(tmp_path, "txt2img"),
        mode: save(tmp_path, mode, without="" if takes else "strength"),
    }
    config = WorkflowSetConfig.model_validate({"workflows": workflows})
    loaded = WorkflowSet.load(config)
    found = loaded.capabilities(max_images=1)
    assert found.ignores_strength == (not takes and mode == "img2img")
    assert found.inpainting_ignores_strength == (not takes and mode == "inpaint")
    image = random_image(64, 64, seed=1)
    mask = Pixels(array=image.array[:, :, :1]) if mode == "inpaint" else None
    task = replace(TASK, init_image=image, mask=mask, strength=0.25)
    graph = json.dumps(loaded.prepare(task, prefix="x").build_graph(seed=1))
    assert ("0.25" in graph) == takes


def test_a_checkpoint_that_a_workflow_has_no_place_for_is_an_error_of_the_configuration(
    tmp_path: Path,
) -> None:
    """Else every task of that mode would be refused."""
    workflows = {
        "txt2img": save(tmp_path, "txt2img"),
        "inpaint": save(tmp_path, "inpaint", without="model"),
    }
    with pytest.raises(ValidationError, match=r"the workflow inpaint\.graph has no slot for model"):
        WorkflowSetConfig.model_validate({"workflows": workflows, "checkpoint": "a.safetensors"})
    WorkflowSetConfig.model_validate({"workflows": workflows})
