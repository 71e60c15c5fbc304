"""Generations a second, and CPU time of each, at 1, 8 and 32 callers, 1 MiB each, against the bare server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.calls import OUTPUT_BYTES, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import ServiceProcess, start_baseline, start_sketch

if TYPE_CHECKING:
    from bench.calls import Stub

_ROUNDS = 9
_RATIOS = {1: 0.7, 8: 0.5, 32: 0.45}
"""By callers: the least ratio to the bare server that is wanted."""
_CALLS = 160
_MAX_CPU_MS = 3.5
_JUDGED = 8  # callers at which CPU time is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    rate: float
    """Calls a second."""
    cpu_ms: float
    """CPU time of the server for each call."""


async def measure() -> list[Figure]:
    """Rounds alternate between the two servers; the ratio is the median of the rounds' ratios."""
    figures = []
    async with (
        start_baseline(OUTPUT_BYTES) as floor,
        start_sketch(output_bytes=OUTPUT_BYTES) as running,
        open_stub(floor.address) as floor_stub,
        open_stub(running.address) as stub,
    ):
        for callers in _RATIOS:
            await measure_rate(floor_stub, callers=callers, calls=_CALLS)  # warm up
            await measure_rate(stub, callers=callers, calls=_CALLS)
            rounds = [
                (
                    await _measure_round(floor, floor_stub, callers),
                    await _measure_round(running, stub, callers),
                )
                for _ in range(_ROUNDS)
            ]
            figures += _make_figures(callers, rounds)
        resident = running.resident_bytes() / 1e6
    return [*figures, Figure(name="resident after", value=resident, unit="MB")]


async def _measure_round(process: ServiceProcess, stub: Stub, callers: int) -> _Round:
    start, used = time.perf_counter(), process.cpu_seconds()
    await measure_rate(stub, callers=callers, calls=_CALLS)
    seconds, cpu = time.perf_counter() - start, process.cpu_seconds() - used
    return _Round(rate=_CALLS / seconds, cpu_ms=cpu / _CALLS * 1e3)


def _make_figures(callers: int, rounds: list[tuple[_Round, _Round]]) -> list[Figure]:
    ratio = median([ours.rate / bare.rate for bare, ours in rounds])
    of = f"{callers} caller{'s' if callers > 1 else ''}"
    cpu = median([ours.cpu_ms for _, ours in rounds])
    judged = callers == _JUDGED
    return [
        Figure(
            name=f"{of}: ratio", value=ratio, unit="×", bound="at least", target=_RATIOS[callers]
        ),
        Figure(name=f"{of}: service", value=median([ours.rate for _, ours in rounds]), unit="/s"),
        Figure(name=f"{of}: bare", value=median([bare.rate for bare, _ in rounds]), unit="/s"),
        Figure(
            name=f"{of}: CPU time, service",
            value=cpu,
            unit="ms",
            bound="at most",
            target=_MAX_CPU_MS,
        )
        if judged
        else Figure(name=f"{of}: CPU time, service", value=cpu, unit="ms"),
        Figure(
            name=f"{of}: CPU time, bare",
            value=median([bare.cpu_ms for bare, _ in rounds]),
            unit="ms",
        ),
    ]
