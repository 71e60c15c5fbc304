"""A generation whose calls are lost: stopped while it runs, kept for a while as long as it waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelOutcome, Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import Stub, events_of, image_request, on_acceptance, slow_request

NARROW = {"sketch": {"type": "sketch", "concurrency": 1}}


@asynccontextmanager
async def narrow_server(start: StartServer, grace_seconds: float) -> AsyncGenerator[Stub]:
    """A server that runs one task at a time."""
    server = start(engines=NARROW, limits={"abandoned_grace_seconds": grace_seconds})
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


async def hang(stub: Stub) -> str:
    """The id of a generation that runs until it is cancelled."""
    made = await stub.Generate(on_acceptance(image_request(options={"hang": True})))
    await reach(stub, made.generation.id, State.STATE_RUNNING)
    return made.generation.id


async def lose(stub: Stub, request: pb.GenerateRequest) -> str:
    """The id of a generation that waits, and whose only call is lost."""
    call = stub.StreamProgress(pb.StreamProgressRequest(generate=request))
    event = await anext(aiter(call))
    assert event.state == State.STATE_QUEUED
    call.cancel()
    return event.generation_id


async def reach(stub: Stub, generation_id: str, state: State.ValueType) -> Generation:
    """The generation once it has this state, without attaching to it."""
    generation = Generation()
    while generation.state != state:
        request = pb.GetGenerationRequest(generation_id=generation_id)
        generation = (await stub.GetGeneration(request)).generation
    return generation


async def cancel(stub: Stub, generation_id: str) -> None:
    """Cancel it."""
    await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation_id))


async def test_a_waiting_generation_is_cancelled_after_the_grace_period(
    start_server: StartServer,
) -> None:
    """Nobody has attached to it."""
    async with narrow_server(start_server, 0.3) as stub:
        await hang(stub)
        lost = await lose(stub, image_request())
        ended = await reach(stub, lost, State.STATE_CANCELLED)
        assert ended.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED


async def test_a_call_that_attaches_in_time_takes_the_generation_over(
    start_server: StartServer,
) -> None:
    """By its id or its request id; losing that call stops what runs then."""
    async with narrow_server(start_server, 3600) as stub:
        ahead = await hang(stub)
        first = await lose(stub, image_request(request_id="first"))
        second = await lose(stub, slow_request(request_id="second"))
        by_id = aiter(stub.StreamProgress(pb.StreamProgressRequest(generation_id=first)))
        assert (await anext(by_id)).state == State.STATE_QUEUED
        request = pb.StreamProgressRequest(generate=slow_request(request_id="second"))
        call = stub.StreamProgress(request)
        again = aiter(call)
        assert (await anext(again)).state == State.STATE_QUEUED
        await cancel(stub, ahead)
        while (last := await anext(by_id)).state != State.STATE_SUCCEEDED:
            assert last.state != State.STATE_CANCELLED
        event = await anext(again)
        while not event.step:
            event = await anext(again)
        assert event.generation_id == second
        call.cancel()
        assert (await reach(stub, second, State.STATE_CANCELLED)).stopped_at_step


async def test_an_abandoned_generation_does_not_run(start_server: StartServer) -> None:
    """It is stopped when its turn comes within the grace period."""
    async with narrow_server(start_server, 3600) as stub:
        ahead = await hang(stub)
        lost = await lose(stub, slow_request())
        await cancel(stub, ahead)
        await reach(stub, lost, State.STATE_CANCELLED)
        made = await stub.Generate(image_request())
        assert made.generation.state == State.STATE_SUCCEEDED
        log = await events_of(stub, pb.StreamProgressRequest(generation_id=lost))
        assert log[-1].step < 100
