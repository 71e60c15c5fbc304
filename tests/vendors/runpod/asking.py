"""Engines that speak to the stand-in, and what they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np

from atelier_engines.engine import Engine
from atelier_engines.event import Dispatched, Event, Output
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.runpod.engine import RunpodEngine
from tests.vendors.runpod.stand_in import ENDPOINT, KEY, StandIn

TASK = ImageTask(prompt="a mill", width=128, height=136, seeds=(7,), steps=25, guidance=6.0)
FILES: dict[str, Any] = {
    "loras": {"medieval": "medieval_v2.safetensors", "cinematic": "cine.safetensors"},
    "controlnets": {"depth": "depth_sdxl.safetensors"},
}


def engine_for(vendor: StandIn, **settings: object) -> Engine:
    """An engine with hardly a pause; not started."""
    config = {"api_key": KEY, "endpoint": ENDPOINT, "base_url": vendor.api, "poll_seconds": 0.001}
    return RunpodEngine(RunpodConfig.model_validate({**config, **settings}), delay_scale=0.001)


@asynccontextmanager
async def started(vendor: StandIn, **settings: object) -> AsyncIterator[Engine]:
    """An engine with hardly a pause, stopped at the end."""
    engine = engine_for(vendor, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def events_of(vendor: StandIn, task: ImageTask = TASK, **settings: object) -> list[Event]:
    """All that the task yields."""
    async with started(vendor, **settings) as engine, aclosing(engine.run(task)) as events:
        return [event async for event in events]


async def handle_of_dead(vendor: StandIn, task: ImageTask = TASK, *, accepted: int = 1) -> str:
    """The last handle of an engine that died after so many jobs were accepted.

    What is dead cancels nothing, so the stand-in forgets that it was told to.
    """
    handle = ""
    async with started(vendor) as engine, aclosing(engine.run(task)) as events:
        async for event in events:
            if isinstance(event, Dispatched):
                handle, accepted = event.handle, accepted - 1
            if not accepted:
                break
    for job in vendor.jobs.values():
        job.cancels = 0
    return handle


def outputs(events: list[Event]) -> list[Encoded]:
    """The pictures, which must be files."""
    media = [event.media for event in events if isinstance(event, Output)]
    assert all(isinstance(one, Encoded) for one in media)
    return [one for one in media if isinstance(one, Encoded)]


def plain(width: int, height: int, value: int) -> Pixels:
    """A picture of one colour."""
    return Pixels(array=np.full((height, width, 3), value, np.uint8))


def noise(width: int, height: int) -> Pixels:
    """A picture that cannot be made smaller."""
    random = np.random.default_rng(1)
    return Pixels(array=random.integers(0, 256, (height, width, 3), np.uint8))
