"""From cancelling a task in the engine to a free device: the time, and the denoiser runs that still happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

import torch

from atelier_engines.diffusion import DiffusionConfig, loading
from atelier_engines.diffusion.batching import DenoiseRequest, DenoiseScheduler, FixedLimit
from atelier_engines.diffusion.pipeline import Pipeline
from atelier_engines.event import Step
from atelier_engines.local import cpu
from atelier_engines.local.step_scheduler import FairBatcher
from bench.engines import SIDES, make_task
from bench.figures import Figure, median, quantile

_ROUNDS = 40


@dataclass(slots=True)
class _RecordingPipeline:
    """Records when the denoiser runs."""

    pipeline: Pipeline
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def denoise(self, runs: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
        """See Pipeline.predict."""
        self.begun.append(time.perf_counter())
        made = self.pipeline.predict(runs)
        self.ended.append(time.perf_counter())
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cancellation:
    """Measurements of one cancellation."""

    seconds: float
    """From the close to its return, when the device is free."""
    begun: int
    """Runs that began after the close was called."""
    ended: int
    """Runs that ended after the close was called."""
    run_seconds: float
    """Median duration of a run."""


async def measure() -> list[Figure]:
    """Each round cancels at another moment of a step."""
    figures: list[Figure] = []
    cpu.configure_threads(1)
    loop = DenoiseScheduler("bench")
    pipeline = await loop.call(partial(loading.load, DiffusionConfig(device="cpu")))
    noted = _RecordingPipeline(pipeline)
    await loop.call(partial(loop.configure, noted.denoise, FairBatcher(FixedLimit(rows=1))))
    for side in SIDES:
        figures += _make_figures(
            side, [await _cancel_at(loop, noted, side, at) for at in range(_ROUNDS)]
        )
    await loop.call(pipeline.components.release)
    await loop.stop()
    return figures


async def _cancel_at(
    loop: DenoiseScheduler, noted: _RecordingPipeline, side: int, at: int
) -> _Cancellation:
    noted.begun.clear()
    noted.ended.clear()
    begin = partial(noted.pipeline.start, make_task("a green tree", side, at))
    async with aclosing(loop.stream(begin)) as events:
        async for event in events:
            if isinstance(event, Step) and event.index == at % 6 + 1:
                break
        # Right after a step nothing is running: cancel at any moment of the next run.
        await asyncio.sleep(at / _ROUNDS * (noted.ended[0] - noted.begun[0]))
        closed = time.perf_counter()
    took = time.perf_counter() - closed
    return _Cancellation(
        seconds=took,
        begun=sum(moment > closed for moment in noted.begun),
        ended=sum(moment > closed for moment in noted.ended),
        run_seconds=median([b - a for a, b in zip(noted.begun, noted.ended, strict=True)]),
    )


def _make_figures(side: int, rounds: Sequence[_Cancellation]) -> list[Figure]:
    run = median([left.run_seconds for left in rounds]) * 1e3
    free = [left.seconds * 1e3 for left in rounds]
    return [
        Figure(name=f"{side} px: a run of the denoiser", value=run, unit="ms"),
        Figure(name=f"{side} px: close to free device p50", value=median(free), unit="ms"),
        Figure(name=f"{side} px: close to free device p99", value=quantile(free, 0.99), unit="ms"),
        Figure(
            name=f"{side} px: runs that ended after the close, most",
            value=max(left.ended for left in rounds),
            unit="",
            bound="at most",
            target=1,
        ),
        Figure(
            name=f"{side} px: runs begun after the close, most",
            value=max(left.begun for left in rounds),
            unit="",
            bound="at most",
            target=1,
        ),
    ]
