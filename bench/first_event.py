"""Time from acceptance to the first progress event, and to the engine's start, on an idle server."""

from __future__ import annotations

import time

from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2 import StreamProgressRequest
from bench.calls import make_request, open_stub
from bench.figures import Figure, quantile
from bench.processes import start_sketch

_CALLS = 200


async def measure() -> list[Figure]:
    """Acceptance is the first event; progress is the first one that says RUNNING."""
    accepted: list[float] = []
    progress: list[float] = []
    async with start_sketch() as running, open_stub(running.address) as stub:
        for _ in range(_CALLS):
            start = time.perf_counter()
            call = stub.StreamProgress(StreamProgressRequest(generate=make_request(inline=False)))
            first_at = running_at = 0.0
            async for event in call:
                now = time.perf_counter()
                first_at = first_at or now
                if event.state == State.STATE_RUNNING:
                    running_at = running_at or now
            accepted.append(first_at - start)
            progress.append(running_at - first_at)
    return [
        _make_figure("progress after acceptance p50", progress, 0.5, target=20),
        _make_figure("progress after acceptance p99", progress, 0.99, target=20),
        _make_figure("acceptance after the call p50", accepted, 0.5),
        _make_figure("acceptance after the call p99", accepted, 0.99),
    ]


def _make_figure(
    name: str, seconds: list[float], share: float, target: float | None = None
) -> Figure:
    value = quantile(seconds, share) * 1e3
    if target is None:
        return Figure(name=name, value=value, unit="ms")
    return Figure(name=name, value=value, unit="ms", bound="at most", target=target)
