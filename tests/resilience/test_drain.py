"""A server that is told to stop finishes what it can, gives back what it can't, and says so."""

from __future__ import annotations

import asyncio
import signal

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer, StartServer
from tests.resilience.following import Calling, Follower, settled, until
from tests.server.calls import later, picture, refusal

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _slow(seconds: float) -> dict[str, dict[str, object]]:
    return {"sketch": {"type": "sketch", "delay_seconds": seconds}}


async def test_running_work_is_finished_and_answered_while_nothing_new_is_taken(
    start_server: StartServer, calling: Calling
) -> None:
    """Health changes first; who asks then is told to come back, and who was being served is served."""
    server = start_server(engines=_slow(2.0))
    async with calling(server) as stub, aio.insecure_channel(server.address) as channel:
        answer = asyncio.ensure_future(stub.Generate(picture(request_id="the-running-one")))
        await _running(server, calling)
        server.process.send_signal(signal.SIGTERM)
        await _not_serving(channel)
        assert not answer.done()

        refused = await refusal(stub.Generate(picture()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.retry_seconds
        assert refused.pushback_ms
        own = await stub.Health(pb.HealthRequest())
        assert own.status == pb.SERVING_STATUS_NOT_SERVING

        assert (await answer).generation.state == State.STATE_SUCCEEDED
    assert await asyncio.to_thread(server.process.wait) == 0


async def test_what_a_drained_server_accepted_before_is_still_found(
    start_server: StartServer, calling: Calling
) -> None:
    """The same request id is the same generation, though nothing new is taken."""
    server = start_server(engines=_slow(2.0))
    async with calling(server) as stub, aio.insecure_channel(server.address) as channel:
        first = (await stub.Generate(later(picture(request_id="again")))).generation
        await _running(server, calling)
        server.process.send_signal(signal.SIGTERM)
        await _not_serving(channel)
        same = await stub.Generate(picture(request_id="again"))
        assert same.generation.id == first.id
        assert same.generation.state == State.STATE_SUCCEEDED
    assert await asyncio.to_thread(server.process.wait) == 0


async def test_work_that_takes_longer_is_given_back_and_done_by_the_next_server(
    start_server: StartServer, calling: Calling
) -> None:
    """It waits again as if never begun: the attempt does not count, and events go on without a gap."""
    server = start_server(engines=_slow(60), drain_seconds=0.2)
    async with calling(server) as stub:
        generation_id = (await stub.Generate(later(picture()))).generation.id
        follower = Follower(generation_id)
        following = asyncio.create_task(follower.follow(stub))
        await _running(server, calling)
        assert await asyncio.to_thread(server.terminate) == 0
        await following

    again = start_server(address=server.address, engines=_slow(0))
    async with calling(again) as stub:
        await follower.follow(stub)
    states = [event.state for event in follower.events]
    assert State.STATE_QUEUED in states[states.index(State.STATE_RUNNING) :]
    assert follower.sequences == list(range(1, len(states) + 1))
    made = follower.events[-1].generation
    assert made.state == State.STATE_SUCCEEDED
    assert [attempt.number for attempt in made.receipt.attempts] == [1]


async def test_a_caller_who_waits_when_time_is_up_is_told_to_try_again(
    start_server: StartServer, calling: Calling
) -> None:
    """UNAVAILABLE; asking again under the same request id finds the generation, which was not cancelled."""
    server = start_server(engines=_slow(60), drain_seconds=0.2)
    async with calling(server) as stub:
        answer = asyncio.ensure_future(stub.Generate(picture(request_id="patience")))
        await _running(server, calling)
        assert await asyncio.to_thread(server.terminate) == 0
        with pytest.raises(aio.AioRpcError) as caught:
            await answer
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    again = start_server(address=server.address, engines=_slow(0))
    async with calling(again) as stub:
        made = (await stub.Generate(picture(request_id="patience"))).generation
        assert made.state == State.STATE_SUCCEEDED
        assert [found.id for found in await settled(stub, [made.id])] == [made.id]


async def test_what_waits_is_left_for_the_next_server(
    start_server: StartServer, calling: Calling
) -> None:
    """Queued generations are not begun while a server drains."""
    engines: dict[str, dict[str, object]] = {
        "sketch": {"type": "sketch", "delay_seconds": 1.0, "concurrency": 1}
    }
    server = start_server(engines=engines)
    async with calling(server) as stub:
        ids = [(await stub.Generate(later(picture()))).generation.id for _ in range(3)]
        await _running(server, calling)
        assert await asyncio.to_thread(server.terminate) == 0

    said = [str(line["event"]) for line in server.log_lines()]
    drained = said.index("drain_started")
    assert "generation_started" in said[:drained]
    assert "generation_started" not in said[drained:]

    again = start_server(address=server.address, engines=engines)
    async with calling(again) as stub:
        found = await settled(stub, ids)
    assert {made.state for made in found} == {State.STATE_SUCCEEDED}


def test_an_idle_server_stops_at_once(start_server: StartServer) -> None:
    """With exit status 0."""
    assert start_server().terminate() == 0


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 1.0, 1.5])
async def test_a_server_told_to_stop_while_it_starts_stops(
    start_server: StartServer, seconds: float
) -> None:
    """By the signal itself while Python still loads, with exit status 0 from then on; and nothing is broken."""
    starting = start_server(wait=False)
    await asyncio.sleep(seconds)
    assert await asyncio.to_thread(starting.terminate) in {0, -signal.SIGTERM}
    assert start_server().terminate() == 0


async def _running(server: RunningServer, calling: Calling) -> None:
    """Wait until the server works on something."""
    async with calling(server) as stub:
        wanted = pb.ListGenerationsRequest(states=[State.STATE_RUNNING])

        async def under_way() -> bool:
            return bool((await stub.ListGenerations(wanted)).generations)

        await until(under_way)


async def _not_serving(channel: aio.Channel) -> None:
    """Wait until the health service says that the server takes nothing more."""
    stub = health_pb2_grpc.HealthStub(channel)
    call = stub.Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    async for answer in call:
        if answer.status == _NOT_SERVING:
            break
    call.cancel()
