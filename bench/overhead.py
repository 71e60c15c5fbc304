"""Time that the service adds to a generation, compared with the bare server: one caller, 1 MiB."""

from __future__ import annotations

from bench.calls import OUTPUT_BYTES, open_stub, time_generate
from bench.figures import Figure, median, quantile
from bench.processes import start_baseline, start_sketch

_ROUNDS = 15
_CALLS = 40


async def measure() -> list[Figure]:
    """Duration of a call, minus that of a call of the bare server for the same bytes."""
    bare: list[float] = []
    ours: list[float] = []
    added: list[float] = []
    async with (
        start_baseline(OUTPUT_BYTES) as floor,
        start_sketch(output_bytes=OUTPUT_BYTES) as running,
        open_stub(floor.address) as floor_stub,
        open_stub(running.address) as stub,
    ):
        for _ in range(_CALLS):  # warm up
            await time_generate(floor_stub)
            await time_generate(stub)
        for _ in range(_ROUNDS):
            least = [await time_generate(floor_stub) for _ in range(_CALLS)]
            taken = [await time_generate(stub) for _ in range(_CALLS)]
            bare += least
            ours += taken
            added += [seconds - median(least) for seconds in taken]
    return [
        Figure(name="added p50", value=_ms(added, 0.5), unit="ms", bound="at most", target=2.5),
        Figure(name="added p99", value=_ms(added, 0.99), unit="ms", bound="at most", target=8),
        Figure(name="call p50", value=_ms(ours, 0.5), unit="ms"),
        Figure(name="call p99", value=_ms(ours, 0.99), unit="ms"),
        Figure(name="bare call p50", value=_ms(bare, 0.5), unit="ms"),
        Figure(name="bare call p99", value=_ms(bare, 0.99), unit="ms"),
    ]


def _ms(seconds: list[float], share: float) -> float:
    return quantile(seconds, share) * 1e3
