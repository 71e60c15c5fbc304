"""The trained model behind the service: controls, LoRAs, images to start from, many callers."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from grpc import aio
from numpy.typing import NDArray
from PIL import Image, ImageDraw

pytest.importorskip("torch", reason="the extra `local` is not installed")

from atelier.v1 import engine_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Disposition, Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import Control, ImageTask, Lora, MediaSource, Upscale
from atelier_tiny import LORAS
from tests.conftest import RunningServer, launch
from tests.server.calls import Stub, dispositions, refusal
from tests.server.test_metrics import key, samples

SENT = MediaSource(attachment="sent")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the trained model alone, up to eight rows in a run."""
    tiny = {"type": "diffusion", "device": "cpu", "max_batch": 8}
    running = launch(
        tmp_path_factory.mktemp("studio"), environment={}, wait=["tiny"], engines={"tiny": tiny}
    )
    yield running
    running.kill()


@pytest.fixture
async def stub(studio: RunningServer) -> AsyncIterator[Stub]:
    """Calls it."""
    async with aio.insecure_channel(studio.address) as channel:
        yield GenerationServiceStub(channel)


def star() -> bytes:
    """A PNG of a dark star on white."""
    page = Image.new("RGB", (128, 128), "white")
    corners = [(64, 10), (78, 48), (118, 48), (86, 72), (98, 112), (64, 88), (30, 112), (42, 72)]
    ImageDraw.Draw(page).polygon([*corners, (10, 48), (50, 48)], fill="black")
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def asked(prompt: str, **task: object) -> pb.GenerateRequest:
    """A request whose image comes inline, with a star sent along."""
    image = ImageTask(prompt=prompt, **{"seed": 7, **task})  # type: ignore[arg-type]  # fields by name
    request = pb.GenerateRequest(engine="tiny", image=image, inline_outputs=True)
    if any(field.message_type and "sent" in str(value) for field, value in image.ListFields()):
        request.attachments["sent"] = star()
    return request


async def made(stub: Stub, request: pb.GenerateRequest) -> tuple[NDArray[np.uint8], Generation]:
    """The image, and what is said of it."""
    generation = (await stub.Generate(request)).generation
    assert generation.state == State.STATE_SUCCEEDED
    with Image.open(io.BytesIO(generation.outputs[0].data)) as picture:
        return np.asarray(picture.convert("RGB")), generation


async def test_words_that_the_model_does_not_know_are_told(stub: Stub) -> None:
    """Each once, with the nearest that it knows; names of LoRAs are no words, and strict refuses."""
    request = asked("Two red apples, a red APPLE beside zzyzx apples", strength=None)
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    (entry,) = [entry for entry in plan.parameters if entry.name == "prompt"]
    assert entry.disposition == Disposition.DISPOSITION_IGNORED
    assert entry.requested.string_value == "two apples beside zzyzx"
    assert "apples (nearest: apple)" in entry.explanation
    assert "zzyzx (nearest: none)" in entry.explanation
    request.strict = True
    told = await refusal(stub.Generate(request))
    assert "apples (nearest: apple)" in told.message
    request.image.prompt = "a red apple, noto style"
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert plan.accepted
    assert all(entry.name != "prompt" for entry in plan.parameters)


async def test_it_says_what_comes_with_the_model(stub: Stub) -> None:
    """Without any configuration of them."""
    (engine,) = (await stub.GetCapabilities(pb.GetCapabilitiesRequest())).engines
    assert {
        engine_pb2.IMAGE_FEATURE_CONTROLNET,
        engine_pb2.IMAGE_FEATURE_CONTROL_PREPROCESSING,
        engine_pb2.IMAGE_FEATURE_LORA,
        engine_pb2.IMAGE_FEATURE_IMAGE_TO_IMAGE,
        engine_pb2.IMAGE_FEATURE_INPAINTING,
        engine_pb2.IMAGE_FEATURE_UPSCALING,
    } <= set(engine.image.features)
    assert list(engine.image.control_types) == [task_pb2.CONTROL_TYPE_CANNY]
    assert list(engine.image.loras) == ["sketch"]


async def test_a_photo_steers_and_a_lora_draws(stub: Stub) -> None:
    """Dark where the star is, and in pencil when asked so; upscaled at last."""
    control = Control(type=task_pb2.CONTROL_TYPE_CANNY, image=SENT, preprocess=True)
    steered, _ = await made(stub, asked("a red ball", controls=[control]))
    plain, _ = await made(stub, asked("a red ball"))
    assert steered[16, 64].min() < 160 < plain[110, 12].min()
    sketched, generation = await made(
        stub,
        asked("a red ball", loras=[Lora(name="sketch")], upscale=Upscale(factor=2), format=4),
    )
    assert sketched.shape == (256, 256, 3)
    assert generation.outputs[0].artifact.media_type == "image/avif"
    assert (
        np.ptp(sketched.astype(int), axis=2).mean() < np.ptp(plain.astype(int), axis=2).mean() / 4
    )
    assert dispositions(generation)["steps"] == "defaulted"
    versions = generation.receipt.recipe.versions
    lora = LORAS["sketch"] / "pytorch_lora_weights.safetensors"
    assert versions["lora sketch"] == hashlib.sha256(lora.read_bytes()).hexdigest()
    assert {"controlnet canny", "pillow", "torch"} < set(versions)


async def test_an_image_to_start_from_is_kept_where_the_mask_is_black(stub: Stub) -> None:
    """The star's own dark area is the mask: around it, white is inpainted."""
    start = {"init_image": SENT, "strength": 0.6}
    varied, _ = await made(stub, asked("a blue star", **start))
    masked, _ = await made(stub, asked("a blue star", mask=SENT, **start))
    assert not np.array_equal(varied, masked)
    assert masked[64, 64].max() < 128


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((100, 140), (96, 136)),
        ((100, 64), (96, 96)),
        ((4000, 2000), (160, 96)),
        ((20, 300), (96, 160)),
        ((64, 64), (96, 96)),
    ],
)
async def test_an_image_to_start_from_decides_the_size(
    stub: Stub, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    """In its proportions as far as the model was trained for them, which is told, and on the grid."""
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, "PNG")
    request = asked("a red ball", init_image=SENT, strength=0.1, steps=4)
    request.attachments["sent"] = file.getvalue()
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    planned = {entry.name: entry for entry in plan.parameters}
    told = (planned["width"].value.number_value, planned["height"].value.number_value)
    assert told == wanted
    assert {planned[side].explanation for side in ("width", "height")} <= {
        "not given: that of init_image",
        "the model was trained for 96 to 160 pixels a side",
    }
    clamped = [side for side in ("width", "height") if "trained" in planned[side].explanation]
    assert all(
        planned[side].disposition is not Disposition.DISPOSITION_DEFAULTED for side in clamped
    )
    assert (len(clamped) == 0) == (size == (100, 140))
    request.image.width = 104
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    planned = {entry.name: entry for entry in plan.parameters}
    assert planned["width"].value.number_value == 104


async def test_sizes_that_the_model_was_not_trained_for_are_clamped(stub: Stub) -> None:
    """In proportion, with what was asked for in the receipt; a strict request is refused."""
    request = asked("a red ball", width=512, height=384)
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    planned = {entry.name: entry for entry in plan.parameters}
    assert [
        (planned[side].requested.number_value, planned[side].value.number_value)
        for side in ("width", "height")
    ] == [(512, 160), (384, 120)]
    assert planned["width"].disposition == Disposition.DISPOSITION_CLAMPED
    request.strict = True
    with pytest.raises(aio.AioRpcError) as refused:
        await stub.Generate(request)
    assert "the model was trained for 96 to 160 pixels a side" in str(refused.value.details())
    usual = await stub.PlanGeneration(
        pb.PlanGenerationRequest(generate=asked("a red ball", aspect_ratio="16:9"))
    )
    planned = {entry.name: entry for entry in usual.parameters}
    assert (planned["width"].value.number_value, planned["height"].value.number_value) == (168, 96)


async def test_many_callers_get_what_each_would_get_alone(stub: Stub) -> None:
    """Runs are shared, bytes differ by one at most."""
    requests = [
        asked("a red apple", seed=1),
        asked("a green car", seed=2, scheduler="euler_a", steps=6),
        asked("a cat, noto style", seed=3, guidance=1.0),
        asked("a rocket", seed=4, width=64, height=64),
        asked("a house", seed=5, init_image=SENT, strength=0.9),
        asked("a blue fish", seed=6, loras=[Lora(name="sketch", weight=0.5)]),
    ]
    alone = [(await made(stub, request))[0] for request in requests]
    together = await asyncio.gather(*(made(stub, request) for request in requests))
    for one, (other, _) in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


async def test_shared_runs_and_loaded_models_are_measured(
    studio: RunningServer, stub: Stub
) -> None:
    """Images of one task share every run of the model, which is there already."""
    before = samples(studio)
    await made(stub, asked("a red apple", num_images=4))
    after = samples(studio)

    def growth(name: str, **labels: str) -> float:
        return after[key(name, **labels)] - before.get(key(name, **labels), 0)

    steps = growth("atelier_batch_size_count", engine="tiny")
    assert steps == growth("atelier_steps_total", engine="tiny", model="atelier-tiny") > 0
    assert growth("atelier_batch_size_sum", engine="tiny") == 4 * steps
    assert growth("atelier_model_cache_uses_total", device="cpu", outcome="hit") > 0
    assert growth("atelier_model_cache_uses_total", device="cpu", outcome="loaded") == 0
    assert after[key("atelier_model_cache_uses_total", device="cpu", outcome="loaded")] > 0
    assert after[key("atelier_model_cache_bytes", device="cpu")] > 2**24


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"loras": [Lora(name="../sketch")]}, "sketch"),
        ({"scheduler": "magic"}, "euler"),
        ({"width": 100}, "multiple of 8"),
        ({"upscale": Upscale(factor=2, model="none")}, "lanczos"),
        (
            {"controls": [Control(type=task_pb2.CONTROL_TYPE_DEPTH, image=SENT)]},
            "it supports canny",
        ),
    ],
)
async def test_what_it_cannot_do_is_refused_with_what_it_can(
    stub: Stub, task: dict[str, object], words: str
) -> None:
    """Before any work."""
    refused = await refusal(stub.Generate(asked("a red ball", **task)))
    assert words in refused.message + " ".join(refused.fields.values())
