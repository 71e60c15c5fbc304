"""Measures how long runs of the denoiser take, by their number of rows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import torch

from atelier_engines.diffusion.batching import DenoiseRequest
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.diffusion.tuning.records import SizeRecord
from atelier_engines.event import Event
from atelier_engines.task import ImageTask

ROWS = (1, 2, 4, 8, 16, 32)
_ROUNDS = 7
_ENOUGH = 1.03
"""A number of rows is good enough if a row takes at most so much longer than with the best."""
_GAIN = 1.05
"""Sharing runs is worth it if a row alone takes at least so much longer than with the best."""


def measure(painter: Pipeline, sizes: Sequence[tuple[int, int]]) -> Iterator[SizeRecord]:
    """What is best for each of these widths and heights in pixels."""
    for width, height in sizes:
        run = _run(painter, width, height)
        times = _milliseconds_a_row(painter, run)
        cells_high, cells_wide = run.size
        yield SizeRecord(
            width=width,
            height=height,
            cells=cells_high * cells_wide,
            rows=best(times),
            milliseconds_a_row={rows: round(value, 3) for rows, value in times.items()},
        )


def best(times: dict[int, float]) -> int:
    """The fewest rows that are about as fast, a row, as the best number of them.

    It is 1 where the best number gains too little over rows alone.
    """
    fastest = min(times.values())
    if times[1] < fastest * _GAIN:
        return 1
    return min(rows for rows, value in times.items() if value <= fastest * _ENOUGH)


def _run(painter: Pipeline, width: int, height: int) -> DenoiseRequest:
    """What a picture of that size asks for first: one row."""
    task = ImageTask(
        prompt="a red apple",
        width=width,
        height=height,
        seeds=(1,),
        guidance=1.0,
        steps=min(painter.variants, default=None),
    )
    (painting,) = painter.start(task, _unheard)
    with torch.inference_mode():
        asked = next(painting)
        painting.close()
    if asked is None:
        raise TypeError("a picture asks for a run before it lets others go on")
    return asked


def _milliseconds_a_row(painter: Pipeline, run: DenoiseRequest) -> dict[int, float]:
    """Medians by the number of rows; the numbers take turns, so that none has the quiet moments."""
    taken: dict[int, list[float]] = {rows: [] for rows in ROWS}
    for turn in range(_ROUNDS + 1):
        for rows in tuple(taken):
            try:
                seconds = _timed(painter, [run] * rows)
            except (torch.OutOfMemoryError, RuntimeError):
                if rows == 1:
                    raise
                taken = {fewer: times for fewer, times in taken.items() if fewer < rows}
                break
            if turn:  # the first one warms up
                taken[rows].append(seconds * 1000 / rows)
    return {rows: statistics.median(times) for rows, times in taken.items()}


def _timed(painter: Pipeline, runs: Sequence[DenoiseRequest]) -> float:
    """Seconds."""
    runtime = runs[0].runtime
    with torch.inference_mode():
        begun = time.perf_counter()
        painter.predict(runs)
        runtime.synchronize()
        return time.perf_counter() - begun


def _unheard(event: Event) -> None:
    """Nobody watches."""
