"""The upscaling engine gets tasks that upscale an image, and no others."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from grpc import aio
from PIL import Image

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask, MediaSource, Upscale
from tests.conftest import StartServer
from tests.engines.upscaling.networks import compact
from tests.server.calls import dispositions, events_of, image_request, receipt_of, refusal

START = MediaSource(attachment="a")


def upscaling(factor: float = 2.0, **task: object) -> pb.GenerateRequest:
    """A request to upscale an attached image of 90 x 70."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((90, 70)).convert("RGB").save(file, "PNG")
    image = ImageTask(init_image=START, upscale=Upscale(factor=factor), **task)  # type: ignore[arg-type]  # fields by name
    request = pb.GenerateRequest(image=image, inline_outputs=True)
    request.attachments["a"] = file.getvalue()
    return request


async def test_a_deployment_offers_upscaling(start_server: StartServer, tmp_path: Path) -> None:
    """Though it is free and configured first, it gets only upscaling tasks, with the size of the image."""
    network = compact(tmp_path)
    upscale = {"type": "upscale", "upscalers": {"small": str(network)}, "upscale_tile": 64}
    engines = {"upscale": upscale, "sketch": {"type": "sketch"}}
    server = start_server(engines=engines, routing="cheapest", default_engine="sketch")
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        said = {engine.name: engine.image for engine in answer.engines}
        assert list(said["upscale"].upscalers) == ["small", "lanczos"]
        assert said["upscale"].upscale_only
        assert not said["sketch"].upscale_only
        assert engine_pb2.IMAGE_FEATURE_UPSCALING not in said["sketch"].features

        words = (await stub.Generate(image_request(engine=""))).generation
        assert words.engine == "sketch"
        refused = await refusal(stub.Generate(image_request(engine="upscale")))
        assert (refused.reason, "init_image" in refused.message) == ("UNSUPPORTED", True)

        asked = upscaling(seed=7, strength=0.3)
        made = (await stub.Generate(asked)).generation
        assert made.engine == "upscale"
        assert Image.open(io.BytesIO(made.outputs[0].data)).size == (180, 140)
        how, receipt = dispositions(made), receipt_of(made)
        assert (how["width"], receipt["width"].value.number_value) == ("defaulted", 90)
        assert "init_image" in receipt["height"].explanation
        assert (how["seed"], how["strength"]) == ("ignored", "ignored")
        assert "only upscales" in receipt["strength"].explanation
        assert len(made.receipt.recipe.versions["upscaler small"]) == 64

        events = await events_of(stub, pb.StreamProgressRequest(generate=upscaling()))
        steps = [(event.step, event.steps) for event in events if event.step]
        assert steps
        assert all(total == 4 for _, total in steps), "two tiles by two"


@pytest.mark.parametrize(
    ("task", "reason", "field"),
    [
        ({"factor": 8.0, "width": 8000, "height": 2000}, "INVALID_REQUEST", "image.upscale.factor"),
        ({"factor": 2.0, "width": 8193}, "INVALID_REQUEST", "image.width"),
    ],
)
async def test_invalid_upscaling_requests_are_rejected(
    start_server: StartServer, task: dict[str, float], reason: str, field: str
) -> None:
    """The error names the field."""
    server = start_server(engines={"upscale": {"type": "upscale"}})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(upscaling(**task)))
        assert refused.reason == reason
        assert field in refused.fields
