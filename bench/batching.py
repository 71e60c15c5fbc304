"""Four callers at once: batched denoiser runs compared with runs of one task each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

from atelier_engines.diffusion import DiffusionEngine
from bench.engines import SIDES, Duration, generate, make_task, start_engine, time_work
from bench.figures import Figure, median

_ROUNDS = 21
_CALLERS = 4
_WAYS: Mapping[str, int] = {"alone": 1, "4 rows": 4, "8 rows": 8}
"""Names of the ways to the most rows in a run; an image has two here, with guidance."""


async def measure() -> list[Figure]:
    """Whether batching is faster depends on the device; `atelier tune` measures it."""
    figures: list[Figure] = []
    async with (
        start_engine(max_batch=_WAYS["alone"]) as alone,
        start_engine(max_batch=_WAYS["4 rows"]) as four,
        start_engine(max_batch=_WAYS["8 rows"]) as eight,
    ):
        engines = {"alone": alone, "4 rows": four, "8 rows": eight}
        for side in SIDES:
            rounds = [await _measure_round(engines, side, index) for index in range(_ROUNDS)]
            figures += _make_figures(side, rounds[1:])
    return figures


async def _measure_round(
    engines: Mapping[str, DiffusionEngine], side: int, index: int
) -> Mapping[str, tuple[Duration, float]]:
    """By way: the duration of all calls together, and the mean wait of a caller in seconds. The ways alternate."""
    found: dict[str, tuple[Duration, float]] = {}
    names = list(engines)
    for place in range(len(names)):
        name = names[(index + place) % len(names)]
        waits: list[float] = []
        taken = await time_work(partial(_run_callers, engines[name], side, waits))
        found[name] = (taken, sum(waits) / len(waits))
    return found


async def _run_callers(engine: DiffusionEngine, side: int, waits: list[float]) -> None:
    await asyncio.gather(*(_run_caller(engine, side, seed, waits) for seed in range(_CALLERS)))


async def _run_caller(engine: DiffusionEngine, side: int, seed: int, waits: list[float]) -> None:
    start = time.perf_counter()
    await generate(engine, make_task("a green tree", side, seed))
    waits.append(time.perf_counter() - start)


def _make_figures(
    side: int, rounds: Sequence[Mapping[str, tuple[Duration, float]]]
) -> list[Figure]:
    figures: list[Figure] = []
    for name in _WAYS:
        images = median([_CALLERS / of[name][0].wall for of in rounds])
        wait = median([of[name][1] for of in rounds])
        figures += [
            Figure(name=f"{side} px, {name}: images", value=images, unit="/s"),
            Figure(name=f"{side} px, {name}: mean wait", value=wait * 1e3, unit="ms"),
        ]
    for name in list(_WAYS)[1:]:
        wall = median([of["alone"][0].wall / of[name][0].wall for of in rounds])
        cpu = median([of["alone"][0].cpu / of[name][0].cpu for of in rounds])
        figures += [
            Figure(name=f"{side} px, {name} against alone: throughput", value=wall, unit="×"),
            Figure(
                name=f"{side} px, {name} against alone: images a CPU second",
                value=cpu,
                unit="×",
            ),
        ]
    return figures
