"""Configured workflows, as engines of services that run them claim and fill them."""

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


def claims(**settings: Any) -> ImageCapabilities:  # noqa: ANN401 (fields of the configuration)
    """The capabilities that workflows so configured have."""
    return WorkflowSet.load(WorkflowSetConfig.model_validate(settings)).capabilities(max_images=2)


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """A workflow of one's own: the shipped one without LoRAs, controls, guidance and choice of sampler."""
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


def test_loras_and_control_are_claimed_where_there_are_files_for_them() -> None:
    """A place in the workflow alone makes nothing possible."""
    bare = claims()
    assert not bare.features & {ImageFeature.LORA, ImageFeature.CONTROLNET}
    full = claims(loras={"rust": "rust.safetensors"}, controlnets={"depth": "d.safetensors"})
    assert full.features >= {ImageFeature.LORA, ImageFeature.CONTROLNET}
    assert full.loras == ("rust",)
    assert [kind.value for kind in full.control_types] == ["depth"]


def test_sizes_and_guidance_are_the_familys() -> None:
    """FLUX is on a coarser grid, and takes no negative prompt."""
    sdxl, flux = claims(), claims(family="flux")
    assert (sdxl.width.multiple_of, flux.width.multiple_of) == (8, 16)
    assert ImageFeature.NEGATIVE_PROMPT in sdxl.features
    assert ImageFeature.NEGATIVE_PROMPT not in flux.features


def test_a_workflow_of_ones_own_claims_what_it_has_places_for(own: dict[str, str]) -> None:
    """Starting from a picture needs another workflow."""
    can = claims(workflows={"txt2img": own}, loras={"rust": "r"}, controlnets={"depth": "d"})
    assert can.features == {ImageFeature.SEED, ImageFeature.NEGATIVE_PROMPT}
    assert can.steps is not None
    assert can.guidance is None
    assert can.schedulers == ()
    assert (can.max_loras, can.max_controls) == (0, 0)


def test_an_order_names_what_it_loads() -> None:
    """Its files begin with the prefix of the task, and each seed has its graph."""
    graphs = WorkflowSet.load(
        WorkflowSetConfig(loras={"rust": "r.safetensors"}, checkpoint="own.safetensors")
    )
    task = image_task(graphs.capabilities(max_images=1))
    task = replace(task, init_image=random_image(8, 8, 1), loras=(Lora(name="rust"),))
    order = graphs.prepare(task, prefix="job_1")
    assert list(order.images) == ["job_1_init.png"]
    first, second = (order.build_graph(seed) for seed in (1, 2))
    assert first != second
    (loader,) = of_class(first, "CheckpointLoaderSimple")  # type: ignore[arg-type]
    assert loader["ckpt_name"] == "own.safetensors"
    (save,) = of_class(first, "SaveImage")  # type: ignore[arg-type]
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
def test_what_makes_no_sense_is_refused_when_it_is_read(settings: dict[str, object]) -> None:
    """Not when the first task comes."""
    with pytest.raises(ValidationError):
        WorkflowSetConfig.model_validate(settings)


def test_workflows_need_one_for_words_alone(own: dict[str, str]) -> None:
    """Every task without a picture uses it."""
    with pytest.raises(ValidationError, match="txt2img"):
        WorkflowSetConfig.model_validate({"workflows": {"img2img": own}})
