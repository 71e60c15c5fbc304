"""Events to 200 watchers of one generation: how many a second, and how late each is."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from atelier.v1.generation_service_pb2 import RESPONSE_MODE_ON_ACCEPTANCE, StreamProgressRequest
from bench.calls import make_request, open_stub
from bench.figures import Figure, quantile
from bench.processes import start_sketch

if TYPE_CHECKING:
    from bench.calls import Stub

_WATCHERS = 200
_CONNECTIONS = 10
_STEPS = 100
_PACED_SECONDS = 10.0  # ten events a second, as a fast local engine gives them


async def measure() -> list[Figure]:
    """Once at the pace of an engine, for the delay; once without pauses, for the rate."""
    async with start_sketch(delay_seconds=_PACED_SECONDS) as running:
        _, delays = await _measure_watchers(running.address)
    async with start_sketch(delay_seconds=1.0) as running:
        rate, _ = await _measure_watchers(running.address)
    return [
        Figure(name="delay p50 at ten a second", value=quantile(delays, 0.5) * 1e3, unit="ms"),
        Figure(name="delay p99 at ten a second", value=quantile(delays, 0.99) * 1e3, unit="ms"),
        Figure(name="delivered at full speed", value=rate, unit="/s"),
    ]


async def _measure_watchers(address: str) -> tuple[float, list[float]]:
    """Events delivered a second, and the delay of each in seconds."""
    async with AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(open_stub(address)) for _ in range(_CONNECTIONS)]
        start = make_request(steps=_STEPS, inline=False)
        start.response_mode = RESPONSE_MODE_ON_ACCEPTANCE
        generation_id = (await stubs[0].Generate(start)).generation.id
        begun = time.perf_counter()
        watched = await asyncio.gather(
            *(_follow(stubs[index % _CONNECTIONS], generation_id) for index in range(_WATCHERS))
        )
        seconds = time.perf_counter() - begun
    delays = [delay for delays in watched for delay in delays]
    return len(delays) / seconds, delays


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
    return delays
