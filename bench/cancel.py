"""From CancelGeneration to a free engine: the time, and the steps that were still run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2 import (
    RESPONSE_MODE_ON_ACCEPTANCE,
    CancelGenerationRequest,
    StreamProgressRequest,
)
from bench.calls import make_request, open_stub
from bench.figures import Figure, quantile
from bench.processes import start_sketch

if TYPE_CHECKING:
    from bench.calls import Stub

_ROUNDS = 30
_STEPS = 100
_STEP_SECONDS = 0.05


async def measure() -> list[Figure]:
    """The engine is free when the next generation in its queue has started."""
    free: list[float] = []
    steps: list[float] = []
    delay = _STEPS * _STEP_SECONDS
    async with (
        start_sketch(delay_seconds=delay, concurrency=1) as running,
        open_stub(running.address) as stub,
    ):
        for _ in range(_ROUNDS):
            seconds, extra = await _cancel_one(stub)
            free.append(seconds)
            steps.append(extra)
    limit = 50 + _STEP_SECONDS * 1e3
    return [
        Figure(name="call to free engine p50", value=quantile(free, 0.5) * 1e3, unit="ms"),
        Figure(
            name="call to free engine p99",
            value=quantile(free, 0.99) * 1e3,
            unit="ms",
            bound="at most",
            target=limit,
        ),
        Figure(
            name="steps done after the call, most",
            value=max(steps),
            unit="",
            bound="at most",
            target=1,
        ),
    ]


async def _cancel_one(stub: Stub) -> tuple[float, int]:
    first, second = [await _start(stub) for _ in range(2)]
    step = 0
    async for event in stub.StreamProgress(StreamProgressRequest(generation_id=first)):
        step = event.step
        if step:
            break
    waiting = asyncio.create_task(_wait_running(stub, second))
    start = time.perf_counter()
    response = await stub.CancelGeneration(CancelGenerationRequest(generation_id=first))
    seconds = await waiting - start
    await stub.CancelGeneration(CancelGenerationRequest(generation_id=second))
    return seconds, response.stopped_at_step - step


async def _start(stub: Stub) -> str:
    wanted = make_request(steps=_STEPS, inline=False)
    wanted.response_mode = RESPONSE_MODE_ON_ACCEPTANCE
    return (await stub.Generate(wanted)).generation.id


async def _wait_running(stub: Stub, generation_id: str) -> float:
    async for event in stub.StreamProgress(StreamProgressRequest(generation_id=generation_id)):
        if event.state == State.STATE_RUNNING:
            return time.perf_counter()
    raise RuntimeError(f"generation {generation_id} never started")
