"""Many calls on one connection: control calls get through, and a call too many is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import TypeAlias

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer, launch
from tests.resilience.follower import wait_until
from tests.server.calls import Stub, image_request, on_acceptance, refusal

LIMIT = 10
WATCHERS = 1100
Watcher: TypeAlias = "aio.UnaryStreamCall[pb.StreamProgressRequest, pb.StreamProgressResponse]"


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with few calls on a connection."""
    limits = {"max_concurrent_streams": LIMIT}
    running = launch(tmp_path_factory.mktemp("small"), limits=limits)
    yield running
    running.kill()


def open_channel(server: RunningServer) -> aio.Channel:
    """A connection of its own."""
    return aio.insecure_channel(server.address, options=(("grpc.use_local_subchannel_pool", 1),))


async def attach(stub: Stub, generation_id: str) -> Watcher:
    """A call that follows the generation, and has received an event."""
    call = stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id))
    await anext(aiter(call))
    return call


async def hang(stub: Stub) -> str:
    """The id of a generation that runs until it is cancelled."""
    made = await stub.Generate(on_acceptance(image_request(options={"hang": True})))
    return made.generation.id


async def cancel(stub: Stub, generation_id: str) -> CancelOutcome.ValueType:
    """Cancel it."""
    request = pb.CancelGenerationRequest(generation_id=generation_id)
    return (await stub.CancelGeneration(request)).outcome


async def test_a_call_too_many_is_told_so_and_control_calls_get_through(
    small_server: RunningServer,
) -> None:
    """Those within the limit go on; another connection has streams of its own."""
    async with open_channel(small_server) as channel, open_channel(small_server) as another:
        stub = GenerationServiceStub(channel)
        generation_id = await hang(stub)
        watchers = [await attach(stub, generation_id) for _ in range(LIMIT)]
        for call in (attach(stub, generation_id), stub.Generate(image_request())):
            rejected = await refusal(call)
            assert rejected.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert rejected.reason == "TOO_MANY_CALLS"
        await attach(GenerationServiceStub(another), generation_id)
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
        assert await cancel(stub, generation_id) == CancelOutcome.CANCEL_OUTCOME_STOPPED
        for watcher in watchers:
            assert [event async for event in watcher][-1].state == State.STATE_CANCELLED
        await stub.Generate(image_request())


async def test_a_call_that_its_caller_leaves_makes_room_for_another(
    small_server: RunningServer,
) -> None:
    """As does one that ends."""
    async with open_channel(small_server) as channel:
        stub = GenerationServiceStub(channel)
        generation_id = await hang(stub)
        for _ in range(3):
            for watcher in [await attach(stub, generation_id) for _ in range(LIMIT)]:
                watcher.cancel()
            await wait_until(partial(has_room, stub))
        await cancel(stub, generation_id)
        for _ in range(2 * LIMIT):
            await stub.Generate(image_request())


async def test_a_thousand_watchers_do_not_keep_a_cancellation_waiting(
    start_server: StartServer,
) -> None:
    """With the limits as they come, on one connection."""
    async with open_channel(start_server()) as channel:
        stub = GenerationServiceStub(channel)
        generation_id = await hang(stub)
        attaching = [attach(stub, generation_id) for _ in range(WATCHERS)]
        attached = await asyncio.gather(*attaching, return_exceptions=True)
        assert sum(isinstance(call, aio.AioRpcError) for call in attached) == WATCHERS - 1024
        assert await cancel(stub, generation_id) == CancelOutcome.CANCEL_OUTCOME_STOPPED


async def has_room(stub: Stub) -> bool:
    """Whether one more call may run on the connection."""
    try:
        await stub.Generate(image_request())
    except aio.AioRpcError:
        return False
    return True
