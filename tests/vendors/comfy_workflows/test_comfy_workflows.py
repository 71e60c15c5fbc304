"""Configured workflows: their capabilities, and graphs for a task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.conformance.tasks import image_task, random_image
from atelier_engines.task import Lora
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.workflows import load_builtin
from atelier_engines.workflows.graph import graph_to_json
from tests.vendors.comfy_workflows.checking import of_class


def capabilities(**settings: Any) -> ImageCapabilities:  # noqa: ANN401 (fields of the configuration)
    """Capabilities of workflows with these settings."""
    return WorkflowSet.load(WorkflowSetConfig.model_validate(settings)).capabilities(max_images=2)


@pytest.fixture
def custom(tmp_path: Path) -> dict[str, str]:
    """A custom workflow: the built-in one without LoRAs, controls, guidance and samplers."""
    shipped = load_builtin("sdxl_txt2img")
    bindings = shipped.bindings.model_dump(mode="json", exclude_none=True)
    for part in ("loras", "controls", "samplers"):
        del bindings[part]
    for slot in ("guidance", "sampler", "schedule"):
        del bindings["slots"][slot]
    bindings["outputs"] = [{"id": "save"}]
    bindings["slots"] = {
        slot: [{"id": place["id"], "input": place["input"]} for place in places]
        for slot, places in bindings["slots"].items()
    }
    files = {"graph": graph_to_json(shipped.graph), "bindings": bindings}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return {name: str(tmp_path / f"{name}.json") for name in files}


def test_loras_and_controls_need_configured_files() -> None:
    """A slot in the workflow is not enough."""
    bare = capabilities()
    assert not bare.features & {ImageFeature.LORA, ImageFeature.CONTROLNET}
    full = capabilities(loras={"rust": "rust.safetensors"}, controlnets={"depth": "d.safetensors"})
    assert full.features >= {ImageFeature.LORA, ImageFeature.CONTROLNET}
    assert full.loras == ("rust",)
    assert [kind.value for kind in full.control_types] == ["depth"]


def test_sizes_and_guidance_are_the_familys() -> None:
    """FLUX is on a coarser grid, and takes no negative prompt."""
    sdxl, flux = capabilities(), capabilities(family="flux")
    assert (sdxl.width.multiple_of, flux.width.multiple_of) == (8, 16)
    assert ImageFeature.NEGATIVE_PROMPT in sdxl.features
    assert ImageFeature.NEGATIVE_PROMPT not in flux.features


def test_a_custom_workflow_has_the_capabilities_of_its_slots(custom: dict[str, str]) -> None:
    """Image-to-image needs another workflow."""
    can = capabilities(
        workflows={"txt2img": custom}, loras={"rust": "r"}, controlnets={"depth": "d"}
    )
    assert can.features == {ImageFeature.SEED, ImageFeature.NEGATIVE_PROMPT}
    assert can.steps is not None
    assert can.guidance is None
    assert can.schedulers == ()
    assert (can.max_loras, can.max_controls) == (0, 0)


def test_an_prepared_names_what_it_loads() -> None:
    """Its files begin with the prefix of the task, and each seed has its graph."""
    graphs = WorkflowSet.load(
        WorkflowSetConfig(loras={"rust": "r.safetensors"}, checkpoint="own.safetensors")
    )
    task = image_task(graphs.capabilities(max_images=1))
    task = replace(task, init_image=random_image(8, 8, 1), loras=(Lora(name="rust"),))
    prepared = graphs.prepare(task, prefix="job_1")
    assert list(prepared.images) == ["job_1_init.png"]
    first, second = (prepared.build_graph(seed) for seed in (1, 2))
    assert first != second
    (loader,) = of_class(first, "CheckpointLoaderSimple")  # type: ignore[arg-type]  # JSON of any form
    assert loader["ckpt_name"] == "own.safetensors"
    (save,) = of_class(first, "SaveImage")  # type: ignore[arg-type]  # JSON of any form
    assert save["filename_prefix"].startswith("job_1")


@pytest.mark.parametrize(
    "settings",
    [
        {"overrides": {"no such node": {"inputs": {}}}},
        {"workflows": {"txt2img": {"graph": "/nowhere.json", "bindings": "/nowhere.json"}}},
        {"controlnets": {"mood": "x"}},
        {"max_pixels": 1000},
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object]) -> None:
    """At the start, not with the first task."""
    with pytest.raises(ValidationError):
        WorkflowSetConfig.model_validate(settings)


def test_custom_workflows_need_txt2img(custom: dict[str, str]) -> None:
    """Every task without an init image uses it."""
    with pytest.raises(ValidationError, match="txt2img"):
        WorkflowSetConfig.model_validate({"workflows": {"img2img": custom}})
