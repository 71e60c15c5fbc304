"""A diffusion engine on several devices; two CPUs stand for two cards, which share nothing but weights here."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import numpy as np

from atelier_engines.diffusion import ENGINE, DiffusionConfig
from atelier_engines.engine import Engine
from atelier_engines.event import Output
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask

TASK = ImageTask(prompt="a red apple", width=64, height=64, seeds=(3,), steps=1, guidance=1.0)


async def draw(engine: Engine) -> np.ndarray:
    """The pixels of the task's image."""
    async with aclosing(engine.run(TASK)) as events:
        (media,) = [event.media async for event in events if isinstance(event, Output)]
    assert isinstance(media, Pixels)
    return media.array


async def test_two_devices_draw_what_one_draws(model: Path) -> None:
    """At the same time, bit by bit."""
    alone = ENGINE.create(DiffusionConfig(model=str(model), device="cpu", concurrency=1))
    both = ENGINE.create(DiffusionConfig(model=str(model), devices=("cpu", "cpu"), concurrency=1))
    for engine in (alone, both):
        await engine.start()
    await both.check()
    assert (alone.capabilities.concurrency, both.capabilities.concurrency) == (1, 2)
    wanted = await draw(alone)
    for found in await asyncio.gather(*(draw(both) for _ in range(4))):
        assert (found == wanted).all()
    for engine in (alone, both):
        await engine.stop()
