"""Input images that unfold to far more than their files: memory stays bounded, and the server goes on answering."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import grpc
import pytest
import yaml
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import ENGINE_STATE_READY
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import CONTROL_TYPE_CANNY, Control, MediaSource
from atelier_server import app
from atelier_server.config.load import load
from tests.conftest import SKETCH, RunningServer, StartServer
from tests.server.calls import Stub, eventually, image_request, on_acceptance, refusal

_MIB = 2**20
_SIDE = 3000
_BUDGET_BYTES = 200 * _MIB  # decoding one image of 3000 x 3000 takes 172 MiB
_REQUESTS = 12


def animation(side: int = _SIDE) -> bytes:
    """A small file with a large canvas."""
    file = io.BytesIO()
    frames = [Image.new("RGB", (side, side), color) for color in ("red", "blue")]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    assert len(file.getvalue()) < 2**17
    return file.getvalue()


def picture(kind: str = "PNG", side: int = 64) -> bytes:
    """A small file of that format."""
    file = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(file, kind)
    return file.getvalue()


def from_image(data: bytes, engine: str = "sketch") -> pb.GenerateRequest:
    """A request that starts from the image, which is attached."""
    made = image_request(task={"init_image": MediaSource(attachment="a")}, engine=engine)
    made.attachments["a"] = data
    return made


def memory_of(server: RunningServer, kind: str) -> int:
    """Bytes: VmRSS is what the server has now, VmHWM the most since `forget_peak`."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{kind}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(server: RunningServer) -> int:
    """Set the server's VmHWM to its VmRSS, and return it."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return memory_of(server, "VmRSS")


def decoding_bytes(server: RunningServer) -> float:
    """What the server says that its images take."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics") as answer:
        found = re.search(rb"^atelier_decoding_bytes (\S+)$", answer.read(), re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.fixture
def small_server(start_server: StartServer) -> RunningServer:
    """A server with little memory for decoding, and an engine that runs all tasks at once."""
    return start_server(
        engines={"sketch": {"type": "sketch", "concurrency": _REQUESTS}},
        limits={"max_decoding_bytes": _BUDGET_BYTES},
    )


@pytest.fixture
async def small_stub(small_server: RunningServer) -> AsyncIterator[Stub]:
    """Calls it."""
    async with aio.insecure_channel(small_server.address) as channel:
        yield GenerationServiceStub(channel)


async def test_a_plan_decodes_nothing(small_stub: Stub, small_server: RunningServer) -> None:
    """A dozen large canvases at once take no more memory than their files."""
    request = pb.PlanGenerationRequest(generate=from_image(animation()))
    await small_stub.PlanGeneration(request)
    before = forget_peak(small_server)
    plans = await asyncio.gather(*(small_stub.PlanGeneration(request) for _ in range(_REQUESTS)))
    assert all(plan.accepted for plan in plans)
    assert memory_of(small_server, "VmHWM") - before < 48 * _MIB


async def test_decoding_is_bounded_and_gives_its_memory_back(
    small_stub: Stub, small_server: RunningServer
) -> None:
    """A dozen large canvases at once; Health answers while they are decoded."""
    await small_stub.Generate(from_image(picture()))
    before = forget_peak(small_server)
    data, answered = animation(), 0
    calls = [asyncio.ensure_future(small_stub.Generate(from_image(data))) for _ in range(_REQUESTS)]
    while not all(call.done() for call in calls):
        busy = await asyncio.to_thread(decoding_bytes, small_server)
        assert busy <= _BUDGET_BYTES
        health = await small_stub.Health(pb.HealthRequest())
        assert health.status == pb.SERVING_STATUS_SERVING
        answered += busy > 0 and await asyncio.to_thread(decoding_bytes, small_server) > 0
    made = [(await call).generation.state for call in calls]
    assert made == [State.STATE_SUCCEEDED] * _REQUESTS
    assert answered > 0
    peak = memory_of(small_server, "VmHWM") - before
    assert peak < 3 * _BUDGET_BYTES, peak  # the engine makes two copies of an image
    await eventually(lambda: memory_of(small_server, "VmRSS") - before < 160 * _MIB)
    assert decoding_bytes(small_server) == 0


async def test_a_task_that_needs_more_than_all_memory_is_refused(small_stub: Stub) -> None:
    """With the numbers; the same image many times is decoded once, and counts once."""
    too_large = from_image(animation(3300))
    for call in (
        small_stub.Generate(too_large),
        small_stub.PlanGeneration(pb.PlanGenerationRequest(generate=too_large)),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert str(_BUDGET_BYTES) in refused.message
    request = from_image(animation(2500))
    for index in range(8):
        control = Control(type=CONTROL_TYPE_CANNY, image=MediaSource(attachment="a"))
        request.image.controls.append(control)
        request.attachments[f"b{index}"] = request.attachments["a"]
    assert (await refusal(small_stub.Generate(request))).reason == "UNSUPPORTED"  # has no controls
    for index, control in enumerate(request.image.controls):
        control.image.attachment = f"b{index}"
    refused = await refusal(small_stub.Generate(request))
    assert str(_BUDGET_BYTES) in refused.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("cut", [1, 20, 0.5])
async def test_a_truncated_image_is_refused_at_submission(
    stub: Stub, kind: str, cut: float
) -> None:
    """Though nothing is decoded yet."""
    whole = picture(kind)
    data = whole[: -int(cut)] if cut >= 1 else whole[: int(len(whole) * cut)]
    refused = await refusal(stub.Generate(on_acceptance(from_image(data))))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "truncated" in refused.fields["image.init_image"]


async def test_what_the_engine_cannot_do_is_refused_before_anything_is_decoded(
    start_server: StartServer, tmp_path: Path
) -> None:
    """An image that cannot be decoded makes no difference."""
    folder = tmp_path / "album"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture())
    server = start_server(engines={"album": {"type": "sketch", "image_directory": str(folder)}})
    data = bytearray(picture("PNG", 256))
    data[200:210] = bytes(10)  # in the compressed pixels
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(from_image(bytes(data), engine="album")))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "UNSUPPORTED",
    )


async def test_an_image_with_damaged_pixels_fails_with_its_reason(stub: Stub) -> None:
    """Only decoding finds this, so the generation fails as the submission would have."""
    data = bytearray(picture("PNG", 256))
    data[200:210] = bytes(10)
    refused = await refusal(stub.Generate(from_image(bytes(data))))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
    )
    assert "image.init_image: the image is damaged" in refused.message


async def test_the_event_loop_does_not_work_on_large_requests(tmp_path: Path) -> None:
    """Digests, headers and pixels of attachments are the work of threads."""
    called: set[str] = set()

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_qualname)

    config = tmp_path / "atelier.yaml"
    config.write_text(yaml.safe_dump({"engines": SKETCH, "metrics": None}))
    settings = load(config, listen="127.0.0.1:0", data_dir=tmp_path / "data")
    async with app.running(settings) as address, aio.insecure_channel(address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await _wait_ready(stub)
        request = from_image(picture(side=1500))
        sys.setprofile(record)  # of this thread, which is that of the server's event loop
        try:
            await stub.Generate(request)
        finally:
            sys.setprofile(None)
    assert "GenerationLifecycle.submit" in called
    assert not called & {"_compute_digest", "read_header", "decode_image", "FileBlobStore._write"}


async def _wait_ready(stub: Stub) -> None:
    """Wait until every engine can work."""
    engines = (await stub.Health(pb.HealthRequest())).engines
    while not all(engine.state == ENGINE_STATE_READY for engine in engines):
        engines = (await stub.Health(pb.HealthRequest())).engines


async def test_large_options_are_refused_before_they_are_parsed(stub: Stub) -> None:
    """They would take a second a few MiB; attachments are not taken apart and may be large."""
    request = image_request(options={str(number): "x" * 100 for number in range(3000)})
    planned = pb.PlanGenerationRequest(generate=request)
    followed = pb.StreamProgressRequest(generate=request)
    for call in (
        stub.Generate(request),
        stub.PlanGeneration(planned),
        stub.StreamProgress(followed).read(),
        stub.ListGenerations(pb.ListGenerationsRequest(page_token="x" * 300_000)),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TOO_LARGE",
        )
        assert "262144" in refused.message
    large = from_image(picture(side=1500) + bytes(4 * _MIB))
    assert (await stub.Generate(large)).generation.state == State.STATE_SUCCEEDED
    assert (await stub.PlanGeneration(pb.PlanGenerationRequest(generate=large))).accepted
