"""examples/era-styles.yaml shows that mappings from eras and biomes to words and LoRAs are just styles."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import yaml
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import ROOT, RunningServer, launch
from tests.server.calls import Stub, image_request, refusal
from tests.vendors.invokeai.stand_in import StandIn, stand_in

EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "era-styles.yaml").read_text())
RUINS = {"key": "r", "name": "overgrown-ruins", "base": "sdxl", "type": "lora"}


@pytest.fixture(scope="module")
def studio() -> Iterator[StandIn]:
    """An InvokeAI server with one of the two LoRAs that the example names."""
    with stand_in() as vendor:
        vendor.models["r"] = RUINS
        yield vendor


@pytest.fixture(scope="module")
def server(studio: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the example as its configuration."""
    folder = tmp_path_factory.mktemp("eras")
    running = launch(folder, environment={"INVOKEAI_URL": studio.api}, **EXAMPLE)
    yield running
    running.kill()


@pytest.fixture
async def stub(server: RunningServer) -> AsyncIterator[Stub]:
    """Calls it."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


async def _pixels(stub: Stub, prompt: str, **task: object) -> bytes:
    task = {"seed": 7, **task}
    request = image_request(prompt, engine="sketch", task=task, inline_outputs=True)
    made = await stub.Generate(request)
    with Image.open(io.BytesIO(made.generation.outputs[0].data)) as image:
        return image.tobytes()


async def test_every_engine_lists_the_styles_that_it_can_honour(stub: Stub) -> None:
    """Words go everywhere; a LoRA must be there, and `desert-light` is nowhere."""
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    styles = {engine.name: set(engine.image.styles) for engine in answer.engines}
    assert styles["sketch"] == {"wilderness", "industrial", "future"}
    assert styles["studio"] == {"wilderness", "industrial", "future", "ruins"}


async def test_a_style_is_its_words_and_defaults_and_nothing_else(stub: Stub) -> None:
    """The picture is pixel for pixel the one that the same words make without it."""
    style = EXAMPLE["styles"]["industrial"]
    styled = await _pixels(stub, "a harbour", style="industrial", negative_prompt="fog")
    spelled = await _pixels(
        stub,
        "a harbour" + style["prompt_suffix"],
        negative_prompt="fog, " + style["negative_prompt"],
        steps=style["steps"],
        guidance=style["guidance"],
    )
    assert styled == spelled
    assert styled != await _pixels(stub, "a harbour", negative_prompt="fog")


async def test_a_style_brings_its_loras_to_the_engine_that_has_them(
    stub: Stub, studio: StandIn
) -> None:
    """With their weights, and its words around the caller's."""
    request = image_request("a harbour", engine="studio", task={"style": "ruins", "steps": 3})
    made = await stub.Generate(request)
    assert len(made.generation.outputs) == 1
    nodes = studio.batches[-1]["graph"]["nodes"]
    assert nodes["lora_0"]["lora"]["name"] == "overgrown-ruins"
    assert nodes["lora_0"]["weight"] == pytest.approx(0.9)
    assert nodes["positive"]["prompt"].startswith("overgrown remains of a harbour, collapsed")
    assert nodes["negative"]["prompt"] == "people, lights, traffic"


@pytest.mark.parametrize(("engine", "style"), [("sketch", "ruins"), ("studio", "ruins.desert")])
async def test_a_style_is_refused_by_an_engine_that_lacks_its_loras(
    stub: Stub, engine: str, style: str
) -> None:
    """It is not applied by halves."""
    found = await refusal(
        stub.Generate(image_request("a harbour", engine=engine, task={"style": style}))
    )
    assert found.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_unknown_style_names_those_there_are(stub: Stub) -> None:
    """A misspelt era is easily mended."""
    request = image_request("a harbour", engine="sketch", task={"style": "industial"})
    found = await refusal(stub.Generate(request))
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "industrial" in found.fields["image.style"]
