"""A server that gets SIGTERM finishes what it can, releases the rest, and reports that it drains."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import defaultdict
from dataclasses import replace

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import ATELIER, RunningServer, StartServer, wait_until_serving
from tests.resilience.follower import Connect, Follower, wait_ended, wait_until
from tests.server.calls import image_request, on_acceptance, refusal

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _slow(seconds: float) -> dict[str, dict[str, object]]:
    return {"sketch": {"type": "sketch", "delay_seconds": seconds}}


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
async def test_running_work_is_finished_and_answered_while_nothing_new_is_taken(
    start_server: StartServer, connect: Connect, sent: signal.Signals
) -> None:
    """Health changes first; new calls get UNAVAILABLE with a retry time, running ones get their answer."""
    server = start_server(engines=_slow(2.0))
    async with connect(server) as stub, aio.insecure_channel(server.address) as channel:
        answer = asyncio.ensure_future(stub.Generate(image_request(request_id="the-running-one")))
        await _running(server, connect)
        server.process.send_signal(sent)
        await _not_serving(channel)
        assert not answer.done()

        refused = await refusal(stub.Generate(image_request()))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.retry_seconds
        assert refused.pushback_ms
        own = await stub.Health(pb.HealthRequest())
        assert own.status == pb.SERVING_STATUS_NOT_SERVING

        assert (await answer).generation.state == State.STATE_SUCCEEDED
    assert await asyncio.to_thread(server.process.wait) == 0


async def test_what_a_drained_server_accepted_before_is_still_found(
    start_server: StartServer, connect: Connect
) -> None:
    """The same request id is the same generation, though nothing new is accepted."""
    server = start_server(engines=_slow(2.0))
    async with connect(server) as stub, aio.insecure_channel(server.address) as channel:
        first = (await stub.Generate(on_acceptance(image_request(request_id="again")))).generation
        await _running(server, connect)
        server.process.send_signal(signal.SIGTERM)
        await _not_serving(channel)
        same = await stub.Generate(image_request(request_id="again"))
        assert same.generation.id == first.id
        assert same.generation.state == State.STATE_SUCCEEDED
    assert await asyncio.to_thread(server.process.wait) == 0


async def test_work_that_takes_longer_is_released_and_executed_by_the_next_server(
    start_server: StartServer, connect: Connect
) -> None:
    """The attempt counts, so that progress never goes back within one, and events continue without a gap."""
    server = start_server(engines=_slow(60), drain_seconds=0.2)
    async with connect(server) as stub:
        request = on_acceptance(image_request(task={"steps": 100}))
        generation_id = (await stub.Generate(request)).generation.id
        follower = Follower(generation_id)
        following = asyncio.create_task(follower.follow(stub))
        await wait_until(lambda: _has_progressed(follower))
        assert await asyncio.to_thread(server.terminate) == 0
        await following
    released = [line for line in server.log_lines() if line["event"] == "generation_released"]
    assert [line["generation"] for line in released] == [generation_id]

    again = start_server(address=server.address, engines=_slow(0))
    async with connect(again) as stub:
        await follower.follow(stub)
    states = [event.state for event in follower.events]
    assert State.STATE_QUEUED in states[states.index(State.STATE_RUNNING) :]
    assert follower.sequences == list(range(1, len(states) + 1))
    made = follower.events[-1].generation
    assert made.state == State.STATE_SUCCEEDED
    released_attempt, last_attempt = made.receipt.attempts
    assert (released_attempt.number, last_attempt.number) == (1, 2)
    assert released_attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_RELEASED
    times = [made.start_time, released_attempt.start_time, released_attempt.end_time]
    times += [last_attempt.start_time, last_attempt.end_time]
    moments = [time.ToMicroseconds() for time in times]
    assert moments == sorted(moments)
    progress: dict[int, list[float]] = defaultdict(list)
    for event in follower.events:
        progress[event.attempt].append(event.progress)
    assert progress.keys() == {0, 1, 2}
    assert all(values == sorted(values) for values in progress.values())


async def test_a_caller_who_waits_when_the_drain_ends_is_told_to_try_again(
    start_server: StartServer, connect: Connect
) -> None:
    """UNAVAILABLE; asking again under the same request id finds the generation, which was not cancelled."""
    server = start_server(engines=_slow(60), drain_seconds=0.2)
    async with connect(server) as stub:
        answer = asyncio.ensure_future(stub.Generate(image_request(request_id="patience")))
        await _running(server, connect)
        assert await asyncio.to_thread(server.terminate) == 0
        with pytest.raises(aio.AioRpcError) as caught:
            await answer
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

    again = start_server(address=server.address, engines=_slow(0))
    async with connect(again) as stub:
        made = (await stub.Generate(image_request(request_id="patience"))).generation
        assert made.state == State.STATE_SUCCEEDED
        assert [found.id for found in await wait_ended(stub, [made.id])] == [made.id]


async def test_what_waits_is_left_for_the_next_server(
    start_server: StartServer, connect: Connect
) -> None:
    """Queued generations are not started while a server drains."""
    engines: dict[str, dict[str, object]] = {
        "sketch": {"type": "sketch", "delay_seconds": 1.0, "concurrency": 1}
    }
    server = start_server(engines=engines)
    async with connect(server) as stub:
        ids = [
            (await stub.Generate(on_acceptance(image_request()))).generation.id for _ in range(3)
        ]
        await _running(server, connect)
        assert await asyncio.to_thread(server.terminate) == 0

    said = [str(line["event"]) for line in server.log_lines()]
    drained = said.index("drain_started")
    assert "generation_started" in said[:drained]
    assert "generation_started" not in said[drained:]

    again = start_server(address=server.address, engines=engines)
    async with connect(again) as stub:
        found = await wait_ended(stub, ids)
    assert {made.state for made in found} == {State.STATE_SUCCEEDED}


def test_an_idle_server_stops_at_once(start_server: StartServer) -> None:
    """SIGTERM without work in hand ends it with exit status 0."""
    assert start_server().terminate() == 0


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 1.0, 1.5])
async def test_a_server_told_to_stop_while_it_starts_stops(
    start_server: StartServer, seconds: float
) -> None:
    """By the signal itself while Python still loads, with exit status 0 after that; and its data stays usable."""
    starting = start_server(wait=False)
    await asyncio.sleep(seconds)
    assert await asyncio.to_thread(starting.terminate) in {0, -signal.SIGTERM}
    assert start_server().terminate() == 0


def test_a_server_that_ignores_sighup_goes_on(start_server: StartServer) -> None:
    """As `nohup` starts it, to go on when its terminal is closed."""
    first = start_server()
    assert first.terminate() == 0
    ignoring = ["/usr/bin/env", "--ignore-signal=HUP"]
    command = [*ignoring, str(ATELIER), "serve", "--config", str(first.config)]
    with first.log.open("ab") as log:
        server = replace(first, process=subprocess.Popen(command, stdout=log, stderr=log))
    try:
        wait_until_serving(server, ["sketch"])
        server.process.send_signal(signal.SIGHUP)
        with grpc.insecure_channel(server.address) as channel:
            for _ in range(20):
                health = GenerationServiceStub(channel).Health(pb.HealthRequest(), timeout=300)
                assert health.status == pb.SERVING_STATUS_SERVING
                time.sleep(0.05)
        assert server.terminate() == 0
    finally:
        server.process.kill()


async def _has_progressed(follower: Follower) -> bool:
    """Whether a step is done in the generation that is followed."""
    return any(event.progress > 0 for event in follower.events)


async def _running(server: RunningServer, connect: Connect) -> None:
    """Wait until the server has a running generation."""
    async with connect(server) as stub:
        wanted = pb.ListGenerationsRequest(states=[State.STATE_RUNNING])

        async def under_way() -> bool:
            return bool((await stub.ListGenerations(wanted)).generations)

        await wait_until(under_way)


async def _not_serving(channel: aio.Channel) -> None:
    """Wait until the health service reports NOT_SERVING."""
    stub = health_pb2_grpc.HealthStub(channel)
    call = stub.Watch(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
    async for answer in call:
        if answer.status == _NOT_SERVING:
            break
    call.cancel()
