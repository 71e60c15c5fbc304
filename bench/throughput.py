"""Generations a second at 1, 8 and 32 callers, 1 MiB each, against the bare server."""

from __future__ import annotations

from bench.calls import OUTPUT_BYTES, measure_rate, open_stub
from bench.figures import Figure, median
from bench.processes import start_baseline, start_sketch

_ROUNDS = 9
_CALLERS = (1, 8, 32)
_CALLS = 160


async def measure() -> list[Figure]:
    """Rounds alternate between the two servers; the ratio is the median of the rounds' ratios."""
    figures = []
    async with (
        start_baseline(OUTPUT_BYTES) as floor_address,
        start_sketch(output_bytes=OUTPUT_BYTES) as running,
        open_stub(floor_address) as floor_stub,
        open_stub(running.address) as stub,
    ):
        for callers in _CALLERS:
            await measure_rate(floor_stub, callers=callers, calls=_CALLS)  # warm up
            await measure_rate(stub, callers=callers, calls=_CALLS)
            rounds = [
                (
                    await measure_rate(floor_stub, callers=callers, calls=_CALLS),
                    await measure_rate(stub, callers=callers, calls=_CALLS),
                )
                for _ in range(_ROUNDS)
            ]
            figures += _make_figures(callers, rounds)
        resident = running.resident_bytes() / 1e6
    return [*figures, Figure(name="resident after", value=resident, unit="MB")]


def _make_figures(callers: int, rounds: list[tuple[float, float]]) -> list[Figure]:
    ratio = median([ours / bare for bare, ours in rounds])
    of = f"{callers} caller{'s' if callers > 1 else ''}"
    return [
        Figure(name=f"{of}: ratio", value=ratio, unit="×", bound="at least", target=1),
        Figure(name=f"{of}: service", value=median([ours for _, ours in rounds]), unit="/s"),
        Figure(name=f"{of}: bare", value=median([bare for bare, _ in rounds]), unit="/s"),
    ]
