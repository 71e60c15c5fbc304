"""Whose fault a failure is: only faults of the engine close it to others, and whatever it raises is one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import aio

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask, Lora
from atelier_server import app
from atelier_server.config.load import load
from tests.conftest import StartServer
from tests.server.calls import Stub, eventually, image_request, on_acceptance, refusal
from tests.server.conftest import install_odd
from tests.server.third_party.atelier_odd import PRIVATE

CRASHES = ("key error", "cancelled", "exit", "nothing", "backwards")
BREAKER = {"failure_threshold": len(CRASHES), "reset_timeout_seconds": 600}


async def test_whatever_an_engine_raises_is_its_own_fault(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Foreign exceptions, exits and cancellations that nobody asked for fail the task, and open the breaker."""
    server = start_server(
        engines={"odd": {"type": "odd", "breaker": BREAKER}},
        environment=install_odd(tmp_path / "site"),
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for prompt in CRASHES:
            refused = await refusal(stub.Generate(image_request(prompt, engine="odd")))
            assert (prompt, refused.reason) == (prompt, "ENGINE_FAILED")
            assert PRIVATE not in str(refused)
        assert "circuit breaker open" in await _unavailable(stub, "odd")


@pytest.mark.parametrize("start", ["cancels", "exits"])
async def test_an_engine_that_gives_up_its_start_oddly_is_started_again(
    start_server: StartServer, tmp_path: Path, start: str
) -> None:
    """It is unavailable as after any other failure; the server goes on."""
    server = start_server(
        engines={"odd": {"type": "odd", "start": start}, "sketch": {"type": "sketch"}},
        wait=["sketch"],
        environment=install_odd(tmp_path / "site"),
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        assert "start raised an unexpected exception" in await _unavailable(stub, "odd")
        assert (await stub.Generate(image_request())).generation.state == State.STATE_SUCCEEDED


async def test_what_cannot_be_recorded_does_not_keep_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A time that no timestamp can hold, which no file configures, fails at every end; the worker goes on."""
    settings = load(None, data_dir=tmp_path, listen="127.0.0.1:0", metrics="127.0.0.1:0")
    store = settings.store.model_copy(update={"retention_seconds": 1e300})
    engines = {"sketch": settings.engines["sketch"]}
    broken = settings.model_copy(update={"store": store, "engines": engines})
    async with app.running(broken) as address, aio.insecure_channel(address) as channel:
        stub = GenerationServiceStub(channel)
        for _ in "ab":
            await stub.Generate(on_acceptance(image_request(task={"steps": 1})))
        await eventually(lambda: caplog.messages.count("generation_left") == 2)


async def test_a_lora_that_makes_the_model_overflow_does_not_stop_the_engine(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The fault is that of the tasks that name it; the next one is done."""
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    _write_overflowing_lora(tmp_path / "loras" / "loud.safetensors")
    tiny = {
        "type": "diffusion",
        "device": "cpu",
        "lora_directory": str(tmp_path / "loras"),
        "breaker": {"failure_threshold": 2, "reset_timeout_seconds": 600},
    }
    server = start_server(engines={"tiny": tiny})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        plain = ImageTask(prompt="a red ball", steps=2, width=64, height=64)
        bad = ImageTask(loras=[Lora(name="loud", weight=1.0)])
        bad.MergeFrom(plain)
        for _ in range(3):
            refused = await refusal(stub.Generate(pb.GenerateRequest(engine="tiny", image=bad)))
            assert refused.reason == "TASK_FAILED"
            assert "LoRA loud" in refused.message
        made = await stub.Generate(pb.GenerateRequest(engine="tiny", image=plain))
        assert made.generation.state == State.STATE_SUCCEEDED


def _write_overflowing_lora(path: Path) -> None:
    """A copy of the LoRA that comes with the model, with finite weights that are far too large."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 (the extra `local`)

    from atelier_tiny import LORAS  # noqa: PLC0415 (of the extra `local`)

    tensors = load_file(LORAS["sketch"] / "pytorch_lora_weights.safetensors")
    path.parent.mkdir()
    save_file({name: tensor.float() * 0 + 1e25 for name, tensor in tensors.items()}, path)


async def _unavailable(stub: Stub, engine: str) -> str:
    """Why the engine is unavailable, once Health says so."""
    while True:
        health = await stub.Health(pb.HealthRequest())
        (found,) = [each for each in health.engines if each.engine == engine]
        if found.state == engine_pb2.ENGINE_STATE_UNAVAILABLE:
            return found.message
