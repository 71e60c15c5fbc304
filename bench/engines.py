"""A diffusion engine in this process, and the timing of its work."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.event import Output
from atelier_engines.local import cpu
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask

SIDES = (64, 128)
"""Widths and heights of the images that are measured."""
STEPS, GUIDANCE, SCHEDULER = 8, 2.5, "euler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How long some work took."""

    wall: float
    """Elapsed seconds."""
    cpu: float
    """CPU seconds of this process on all its threads; other work on the machine changes them little."""


@asynccontextmanager
async def start_engine(**settings: object) -> AsyncGenerator[DiffusionEngine]:
    """The small trained model on one thread of the CPU, with these settings."""
    cpu.configure_threads(1)
    engine = DiffusionEngine(DiffusionConfig(device="cpu", **settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def make_task(prompt: str, side: int, seed: int, *, previews: int = 0) -> ImageTask:
    """A square image."""
    return ImageTask(
        prompt=prompt,
        width=side,
        height=side,
        seeds=(seed,),
        steps=STEPS,
        guidance=GUIDANCE,
        scheduler=SCHEDULER,
        preview_interval=previews,
    )


async def generate(engine: DiffusionEngine, wanted: ImageTask) -> NDArray[np.uint8]:
    """The image of a task with one seed."""
    async with aclosing(engine.run(wanted)) as events:
        media = [event.media async for event in events if isinstance(event, Output)]
    (array,) = [found.array for found in media if isinstance(found, Pixels)]
    return array


async def time_work(work: Callable[[], Awaitable[object]]) -> Duration:
    """Run the work, and measure it."""
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return Duration(wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)
