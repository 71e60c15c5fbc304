"""Start-up time and resident memory of a gateway that has no model of its own."""

from __future__ import annotations

from bench.calls import OUTPUT_BYTES, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import start_sketch

_STARTS = 7


async def measure() -> list[Figure]:
    """From the start of the process to SERVING; memory when idle, and after a hundred generations."""
    seconds: list[float] = []
    idle: list[float] = []
    used: list[float] = []
    for _ in range(_STARTS):
        async with (
            start_sketch(output_bytes=OUTPUT_BYTES) as running,
            open_stub(running.address) as stub,
        ):
            seconds.append(running.start_seconds)
            idle.append(running.resident_bytes() / 1e6)
            await measure_rate(stub, callers=1, calls=100)
            used.append(running.resident_bytes() / 1e6)
    return [
        Figure(
            name="start to SERVING", value=median(seconds), unit="s", bound="at most", target=1.5
        ),
        Figure(name="resident, idle", value=median(idle), unit="MB", bound="at most", target=120),
        Figure(name="resident, after 100 of 1 MiB", value=median(used), unit="MB"),
    ]
