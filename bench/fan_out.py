"""Events to 200 watchers of one generation: how many a second, how late each is, and what each costs the server.

The bare server sends as many messages of the same size to as many calls: what that costs is the cost of gRPC itself.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from atelier.v1.generation_service_pb2 import RESPONSE_MODE_ON_ACCEPTANCE, StreamProgressRequest
from bench.calls import make_request, open_stub
from bench.figures import Figure, median, quantile
from bench.grpc_baseline import EVENTS
from bench.processes import ServiceProcess, start_baseline, start_sketch

if TYPE_CHECKING:
    from bench.calls import Stub

_WATCHERS = 200
_CONNECTIONS = 10
_STEPS = 100
_PACED_SECONDS = 10.0  # ten events a second, as a fast local engine gives them
_ROUNDS = 7
_MIN_RATE = 40_000


async def measure() -> list[Figure]:
    """Once at the pace of an engine, for the delay; then without pauses, alternated with the bare server."""
    async with start_sketch(delay_seconds=_PACED_SECONDS) as running:
        delays = await _time_watchers(running)
    return [
        Figure(name="delay p50 at ten a second", value=quantile(delays, 0.5) * 1e3, unit="ms"),
        Figure(name="delay p99 at ten a second", value=quantile(delays, 0.99) * 1e3, unit="ms"),
        *await _measure_full_speed(),
    ]


async def _measure_full_speed() -> list[Figure]:
    ours, bare = [], []
    async with start_sketch(delay_seconds=0.5) as running, start_baseline(0) as floor:
        for _ in range(_ROUNDS):
            ours.append(await _measure_watchers(running))
            bare.append(await _measure_watchers(floor))
    rate = median([rate for rate, _ in ours])
    return [
        Figure(
            name="delivered at full speed",
            value=rate,
            unit="/s",
            bound="at least",
            target=_MIN_RATE,
        ),
        Figure(name="delivered by the bare server", value=median([r for r, _ in bare]), unit="/s"),
        Figure(name="CPU time of each, service", value=median([c for _, c in ours]), unit="us"),
        Figure(name="CPU time of each, bare", value=median([c for _, c in bare]), unit="us"),
    ]


async def _measure_watchers(process: ServiceProcess) -> tuple[float, float]:
    """Events delivered a second, and CPU time of the server for each in microseconds."""
    start, used = time.perf_counter(), process.cpu_seconds()
    await _time_watchers(process)
    seconds, cpu = time.perf_counter() - start, process.cpu_seconds() - used
    delivered = _WATCHERS * EVENTS
    return delivered / seconds, cpu / delivered * 1e6


async def _time_watchers(process: ServiceProcess) -> list[float]:
    """The delay of each event in seconds."""
    async with AsyncExitStack() as stack:
        stubs = [
            await stack.enter_async_context(open_stub(process.address)) for _ in range(_CONNECTIONS)
        ]
        start = make_request(steps=_STEPS, inline=False)
        start.response_mode = RESPONSE_MODE_ON_ACCEPTANCE
        generation_id = (await stubs[0].Generate(start)).generation.id
        watched = await asyncio.gather(
            *(_follow(stubs[index % _CONNECTIONS], generation_id) for index in range(_WATCHERS))
        )
    return [delay for delays in watched for delay in delays]


async def _follow(stub: Stub, generation_id: str) -> list[float]:
    """Delays of the events that were logged after this watcher started."""
    come = time.time()
    delays = []
    expected = 0
    async for event in stub.StreamProgress(StreamProgressRequest(generation_id=generation_id)):
        expected += 1
        assert event.sequence == expected
        happened = event.time.ToNanoseconds() / 1e9
        if happened > come:
            delays.append(time.time() - happened)
    assert expected == EVENTS
    return delays
