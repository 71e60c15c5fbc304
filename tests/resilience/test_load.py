"""Many callers at once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import Connect, Follower
from tests.server.calls import Stub, image_request, on_acceptance, slow_request

_CALLERS = 50
_ROUNDS = 5
_MIB = 2**20
_GROWTH_BYTES = 48 * _MIB  # less than the outputs of one round
_DEADLINE_SECONDS = 120.0
_WATCHERS = 200


async def test_fifty_callers_at_once_are_served_in_bounded_memory(
    start_server: StartServer, connect: Connect
) -> None:
    """1 MiB each in every round, without an error; and both health services answer meanwhile."""
    server = start_server(engines={"sketch": {"type": "sketch", "output_bytes": _MIB}})
    resident = []
    async with connect(server) as stub:
        asking = asyncio.create_task(_ask_for_health(server))
        for _ in range(_ROUNDS):
            sizes = await asyncio.gather(*(_bytes_of_one(stub) for _ in range(_CALLERS)))
            assert sizes == [_MIB] * _CALLERS
            resident.append(_resident_bytes(server))
            assert not asking.done()
        asking.cancel()
    assert resident[-1] < resident[1] + _GROWTH_BYTES


async def test_every_one_of_200_watchers_sees_every_event_once(
    start_server: StartServer, connect: Connect
) -> None:
    """Those that come before it starts and those that come while it runs see the same."""
    server = start_server()
    async with connect(server) as stub:
        generation = (await stub.Generate(on_acceptance(slow_request(2.0, steps=100)))).generation
        followers = [Follower(generation.id) for _ in range(_WATCHERS)]
        early, late = followers[: _WATCHERS // 2], followers[_WATCHERS // 2 :]
        following = [asyncio.create_task(follower.follow(stub)) for follower in early]
        await asyncio.sleep(0.5)
        following += [asyncio.create_task(follower.follow(stub)) for follower in late]
        await asyncio.gather(*following)
    first = followers[0]
    assert first.last_state == State.STATE_SUCCEEDED
    assert first.sequences == list(range(1, len(first.events) + 1))
    assert len(first.events) > 100
    assert all(follower.events == first.events for follower in followers)


async def _bytes_of_one(stub: Stub) -> int:
    response = await stub.Generate(image_request(inline_outputs=True))
    return len(response.generation.outputs[0].data)


async def _ask_for_health(server: RunningServer) -> None:
    """Call both health services in a loop, on a connection of its own; raises when an answer is late."""
    async with aio.insecure_channel(
        server.address, options=(("grpc.use_local_subchannel_pool", 1),)
    ) as channel:
        standard = health_pb2_grpc.HealthStub(channel)
        check = channel.unary_unary(
            "/atelier.v1.GenerationService/Health",
            request_serializer=pb.HealthRequest.SerializeToString,
            response_deserializer=pb.HealthResponse.FromString,
        )
        while True:
            request = health_pb2.HealthCheckRequest(service="sketch")
            answer = await standard.Check(request, timeout=_DEADLINE_SECONDS)  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            own = await check(pb.HealthRequest(), timeout=_DEADLINE_SECONDS)
            assert own.status == pb.SERVING_STATUS_SERVING


def _resident_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
