"""Measures how long the denoiser takes, by the number of rows in its batch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

import torch

from atelier_engines.diffusion.batching import DenoiseRequest
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.diffusion.tuning.records import BatchSizeRecord
from atelier_engines.event import Event
from atelier_engines.local import devices
from atelier_engines.task import ImageTask

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
_ROUNDS = 7
_NEAR_BEST = 1.03
"""A batch size is near the best if a row takes at most so many times as long as with the best."""
_MIN_GAIN = 1.05
"""Batching pays if a row alone takes at least so many times as long as with the best batch size."""


def measure_sizes(
    pipeline: Pipeline, sizes: Sequence[tuple[int, int]]
) -> Iterator[BatchSizeRecord]:
    """The best batch size for each of these widths and heights in pixels."""
    for width, height in sizes:
        request = _first_request(pipeline, width, height)
        times = _measure_batch_sizes(pipeline, request)
        latent_height, latent_width = request.size
        yield BatchSizeRecord(
            width=width,
            height=height,
            latent_pixels=latent_height * latent_width,
            batch_size=smallest_near_best(times),
            milliseconds_per_row={rows: round(value, 3) for rows, value in times.items()},
        )


def smallest_near_best(times: dict[int, float]) -> int:
    """The smallest batch size whose time per row is near that of the best one.

    It is 1 where the best batch size gains too little over rows alone.
    """
    fastest = min(times.values())
    if times[1] < fastest * _MIN_GAIN:
        return 1
    return min(rows for rows, value in times.items() if value <= fastest * _NEAR_BEST)


def _first_request(pipeline: Pipeline, width: int, height: int) -> DenoiseRequest:
    """The first request of an image of that size: one row."""
    task = ImageTask(
        prompt="a red apple",
        width=width,
        height=height,
        seeds=(1,),
        guidance=1.0,
        steps=min(pipeline.variants, default=None),
    )
    (image,) = pipeline.start(task, _ignore_event)
    with torch.inference_mode():
        request = next(image)
        image.close()
    if request is None:
        raise TypeError("an image requests the denoiser before it pauses")
    return request


def _measure_batch_sizes(pipeline: Pipeline, request: DenoiseRequest) -> dict[int, float]:
    """Median milliseconds per row by batch size; batch sizes alternate, so that load hits all."""
    measured: dict[int, list[float]] = {rows: [] for rows in BATCH_SIZES}
    for turn in range(_ROUNDS + 1):
        for rows in tuple(measured):
            try:
                seconds = _measure_seconds(pipeline, [request] * rows)
            except (torch.OutOfMemoryError, RuntimeError):
                if rows == 1:
                    raise
                measured = {fewer: times for fewer, times in measured.items() if fewer < rows}
                break
            if turn:  # the first one warms up
                measured[rows].append(seconds * 1000 / rows)
    return {rows: statistics.median(times) for rows, times in measured.items()}


def _measure_seconds(pipeline: Pipeline, requests: Sequence[DenoiseRequest]) -> float:
    """Seconds that one run of the denoiser takes for all requests."""
    runtime = requests[0].runtime
    with torch.inference_mode():
        started = time.perf_counter()
        pipeline.predict(requests)
        devices.synchronize(runtime.device)
        return time.perf_counter() - started


def _ignore_event(event: Event) -> None:
    """Drop an event; nobody follows the measurement's task."""
