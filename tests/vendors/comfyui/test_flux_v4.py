"""The workflow template flux-v4, on a server with the nodes that it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from atelier_engines.conformance.remote_service import run_engine
from atelier_engines.errors import EngineUnavailableError, InvalidTaskError
from atelier_engines.task import ImageTask, Lora
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from tests.vendors.calls import outputs, run_task
from tests.vendors.comfyui.nodes import LORAS
from tests.vendors.comfyui.state import StandIn

FLUX: dict[str, Any] = {"family": "flux", "template": "flux-v4"}
TASK = ImageTask(prompt="a detective", width=1360, height=768, seeds=(7,), steps=20, guidance=3.5)


def inputs(graph: dict[str, Any], kind: str) -> dict[str, Any]:
    """The inputs of the one node of a class."""
    (found,) = [node["inputs"] for node in graph.values() if node["class_type"] == kind]
    return dict(found)


@pytest.mark.parametrize("count", [0, 1, 3, 10])
async def test_the_server_accepts_it_with_so_many_loras(server: StandIn, count: int) -> None:
    """In their order with their weights; it validates every input and every link."""
    loras = tuple(Lora(name=LORAS[n % 3], weight=1 - n / 20) for n in range(count))
    async with run_engine(server, **FLUX) as engine:
        assert outputs(await run_task(engine, replace(TASK, loras=loras)))
    (submitted,) = server.submitted
    graph = submitted["prompt"]
    stack = inputs(graph, "easy loraStack")
    assert stack["num_loras"] == max(count, 1)
    names = [stack[f"lora_{n}_name"] for n in range(1, 11)]
    assert names == [lora.name for lora in loras] + ["None"] * (10 - count)
    for number, lora in enumerate(loras, start=1):
        for part in ("strength", "model_strength", "clip_strength"):
            assert stack[f"lora_{number}_{part}"] == lora.weight


async def test_every_part_of_it_has_its_place(server: StandIn) -> None:
    """The model goes through the LoRAs, the cache and the sampling shift, which follows the size of the task."""
    async with run_engine(server, **FLUX) as engine:
        await run_task(engine, TASK)
        capabilities = engine.capabilities.image
    assert capabilities is not None
    assert capabilities.max_loras == 10
    assert capabilities.loras == tuple(LORAS)
    graph = server.submitted[0]["prompt"]
    assert inputs(graph, "UNETLoader")["weight_dtype"] == "fp8_e4m3fn"
    assert inputs(graph, "DualCLIPLoader")["clip_name2"] == "t5xxl_fp8_e4m3fn.safetensors"
    shift = inputs(graph, "ModelSamplingFlux")
    assert (shift["width"], shift["height"]) == (1360, 768)
    chain, source = [], inputs(graph, "KSampler")["model"][0]
    while "model" in graph[source]["inputs"]:
        chain.append(graph[source]["class_type"])
        source = graph[source]["inputs"]["model"][0]
    assert [*chain, graph[source]["class_type"]] == [
        *("ModelSamplingFlux", "TeaCache", "easy loraStackApply", "UNETLoader")
    ]
    assert inputs(graph, "CLIPTextEncode")["clip"][0] == inputs(graph, "ModelSamplingFlux")[
        "model"
    ][0].replace("cache", "loras")


async def test_what_it_cannot_do_is_refused(server: StandIn) -> None:
    """More than ten LoRAs, and init images: it is for text alone."""
    async with run_engine(server, **FLUX) as engine:
        many = tuple(Lora(name=LORAS[0]) for _ in range(11))
        with pytest.raises(InvalidTaskError, match="at most 10"):
            await run_task(engine, replace(TASK, loras=many))
        capabilities = engine.capabilities.image
    assert capabilities is not None
    assert not {feature.value for feature in capabilities.features} & {
        "image_to_image",
        "inpainting",
    }


@pytest.mark.parametrize("missing", ["TeaCache", "easy loraStack"])
async def test_a_server_without_its_nodes_says_which(server: StandIn, missing: str) -> None:
    """At the start."""
    server.does.without = (missing,)
    with pytest.raises(EngineUnavailableError, match=f"lacks the nodes {missing}"):
        async with run_engine(server, **FLUX):
            pass


@pytest.mark.parametrize("change", [{"family": "sdxl"}, {"template": "flux-v5"}])
def test_it_is_for_flux(change: dict[str, str]) -> None:
    """Other settings are refused by the configuration."""
    with pytest.raises(ValidationError, match="flux-v4"):
        ComfyuiConfig.model_validate({"servers": [{"url": "http://localhost:1"}], **FLUX, **change})
