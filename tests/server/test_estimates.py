"""What is said about times that lie ahead: by the work of a task, and nothing rather than something false."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import Load
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import (
    Stub,
    audio_request,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
)
from tests.server.conftest import install_odd
from tests.server.test_metrics import key, samples

ONE = {"one": {"type": "sketch", "concurrency": 1}}
SECOND = 1_000_000


@pytest.fixture
async def one(start_server: StartServer) -> AsyncIterator[Stub]:
    """Calls a server with one engine, that does one task at a time."""
    server = start_server(engines=ONE)
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


def request(seconds: float, **fields: Any) -> pb.GenerateRequest:  # noqa: ANN401 (fields of a request)
    """A picture that takes so long on the only engine."""
    return slow_request(seconds, steps=4, engine="one", **fields)


async def done(stub: Stub, wanted: pb.GenerateRequest) -> Generation:
    """The generation of the request, which succeeds."""
    return (await stub.Generate(wanted)).generation


async def planned(stub: Stub, wanted: pb.GenerateRequest) -> pb.PlanGenerationResponse:
    """The plan for the request."""
    return await stub.PlanGeneration(pb.PlanGenerationRequest(generate=wanted))


async def load_of(stub: Stub) -> Load:
    """The load of the only engine."""
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest(engine="one"))
    return answer.engines[0].load


async def start(stub: Stub, wanted: pb.GenerateRequest) -> str:
    """Have it accepted, and return its id once it runs."""
    generation = await done(stub, on_acceptance(wanted))
    async for event in stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation.id)):
        if event.state == State.STATE_RUNNING:
            break
    return generation.id


async def test_long_tasks_do_not_have_short_ones_refused(one: Stub) -> None:
    """Neither of another kind, nor of another size: a deadline is only compared with tasks of the same."""
    for _ in range(3):
        await done(one, request(2))
        await done(one, image_request(engine="one", task={"steps": 900}))
    for short in (request(0.1), image_request(engine="one")):
        short.timeout.FromMilliseconds(1)
        assert (await planned(one, short)).accepted
        short.ClearField("timeout")
        for _ in range(3):
            assert (await done(one, short)).state == State.STATE_SUCCEEDED
        short.timeout.FromMilliseconds(1)
        assert (await planned(one, short)).rejection.reason == "DEADLINE_UNATTAINABLE"


async def test_what_never_succeeded_in_so_little_time_is_refused(one: Stub) -> None:
    """After three tasks of its kind; a larger one as well, a smaller one not, nor one of another kind."""
    for _ in range(3):
        assert (await planned(one, request(1, timeout_seconds=0.5))).accepted
        await done(one, request(1))
    hopeless = request(1, timeout_seconds=0.5)
    assert (await refusal(one.Generate(hopeless))).reason == "DEADLINE_UNATTAINABLE"
    larger = request(1, timeout_seconds=0.5, task={"num_images": 8})
    assert (await refusal(one.Generate(larger))).reason == "DEADLINE_UNATTAINABLE"
    for other in (
        request(1, timeout_seconds=600),
        request(1, timeout_seconds=0.5, task={"width": 32, "height": 32}),
        request(0.9, timeout_seconds=0.5),
    ):
        assert (await planned(one, other)).accepted


async def test_a_plan_says_nothing_about_what_was_never_done(one: Stub) -> None:
    """Eight large images are not a small one; the wait in an empty queue is known all the same."""
    for _ in range(4):
        await done(one, request(0.2))
    like = await planned(one, request(0.2, task={"seed": 5}))
    assert like.estimated_duration.ToMicroseconds() >= 0.2 * SECOND
    large = {"num_images": 8, "width": 1448, "height": 1448, "steps": 150}
    for unknown in (
        image_request(engine="one", task=large, options={"delay_seconds": 0.2}),
        audio_request(engine="one"),
        request(0.3),
    ):
        plan = await planned(one, unknown)
        assert not plan.HasField("estimated_duration")
        assert (plan.estimated_wait.ToMicroseconds(), plan.accepted) == (0, True)


async def test_the_wait_is_that_of_the_work_ahead(one: Stub) -> None:
    """Mixed sizes: a queue of short tasks is short, whatever was done before; one of unknown ones is unknown."""
    for seconds in (2, 0.1, 0.1, 2, 2, 0.1):
        await done(one, request(seconds))
    running = await start(one, request(600))
    assert not (await planned(one, request(0.1))).HasField("estimated_wait")
    assert not (await load_of(one)).HasField("backlog")
    for _ in range(5):
        await done(one, on_acceptance(request(0.1, timeout_seconds=3600)))
    await one.CancelGeneration(pb.CancelGenerationRequest(generation_id=running))
    await start(one, request(2))
    waiting = [await done(one, on_acceptance(request(2))) for _ in range(4)]
    plan = await planned(one, request(0.1))
    assert plan.estimated_wait.ToMicroseconds() > 4 * SECOND
    assert (await load_of(one)).backlog.ToMicroseconds() > 4 * SECOND
    refused = await refusal(one.Generate(request(0.1, timeout_seconds=3)))
    assert refused.reason == "DEADLINE_UNATTAINABLE"
    for generation in waiting:  # what is cancelled is no work any more
        await one.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation.id))
    after = await planned(one, request(0.1))
    assert after.estimated_wait.ToMicroseconds() < plan.estimated_wait.ToMicroseconds() / 2


async def test_what_failed_or_was_cancelled_teaches_nothing(one: Stub) -> None:
    """It says nothing about the time of a success."""
    for _ in range(3):
        await refusal(one.Generate(request(30, timeout_seconds=0.3)))
        failing = image_request(engine="one", options={"fail": True})
        assert (await refusal(one.Generate(failing))).reason == "ENGINE_FAILED"
    assert not (await planned(one, request(30))).HasField("estimated_duration")
    plan = await planned(one, image_request(engine="one", options={"fail": True}))
    assert not plan.HasField("estimated_duration")
    assert not (await load_of(one)).HasField("service_time")


async def test_a_restart_keeps_what_was_learnt_and_what_waits(start_server: StartServer) -> None:
    """After kill -9: from the stored generations."""
    server = start_server(engines=ONE)
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        for _ in range(3):
            await done(stub, request(1))
        await start(stub, request(60))
        for _ in range(9):
            await done(stub, on_acceptance(request(1)))
    server.kill()
    server = start_server(engines=ONE)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        plan = await planned(stub, request(1, timeout_seconds=8))
        assert plan.estimated_duration.ToMicroseconds() >= SECOND
        assert plan.rejection.reason == "DEADLINE_UNATTAINABLE"  # nine wait, of a second each
        assert not plan.HasField("estimated_wait")  # the tenth is of an unknown kind


async def test_the_price_by_the_second_is_that_of_the_time_it_took(
    start_server: StartServer, tmp_path: Path
) -> None:
    """A plan has no cost before such a task was done, and that of such a task afterwards."""
    engines = {"one": {"type": "odd", "price_per_second": 1000.0}}
    server = start_server(engines=engines, environment=install_odd(tmp_path / "site"))
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        small = image_request(engine="one")
        assert not (await planned(stub, small)).HasField("cost")
        made = await done(stub, small)
        took = sum(timing.duration.ToMicroseconds() for timing in made.receipt.timings) / SECOND
        assert made.receipt.cost.amount <= 1000 * took
        plan = await planned(stub, small)
        expected = plan.estimated_duration.ToMicroseconds() / SECOND
        assert plan.cost.amount == pytest.approx(1000 * expected, abs=0.01)
        assert plan.cost.currency == "EUR"


async def test_an_unknown_backlog_is_left_out_of_the_metrics(start_server: StartServer) -> None:
    """0 would say that there is nothing to do; it is shown again when it is known."""
    server = start_server(engines=ONE)
    shown = key("atelier_backlog_seconds", engine="one")
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await until_shown(server, shown, is_shown=True)
        assert samples(server)[shown] == 0
        running = await start(stub, request(600))
        await until_shown(server, shown, is_shown=False)
        await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=running))
        await until_shown(server, shown, is_shown=True)


async def until_shown(
    server: RunningServer, sample: tuple[str, frozenset[tuple[str, str]]], *, is_shown: bool
) -> None:
    """Wait until the metrics have the sample, or have it no more."""
    while (sample in samples(server)) is not is_shown:  # noqa: ASYNC110 (in another process)
        await asyncio.sleep(0.1)
