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
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.engine import FalEngine
from tests.vendors.fal.stand_in import APP, KEY, StandIn

TASK = ImageTask(prompt="a lighthouse", width=256, height=264, seeds=(7,), steps=4)
COMFY: dict[str, Any] = {
    "endpoint": APP,
    "loras": {"medieval": "medieval_v2.safetensors", "cinematic": "cine.safetensors"},
    "controlnets": {"depth": "depth_sdxl.safetensors"},
}


def engine_for(vendor: StandIn, **settings: object) -> Engine:
    """An engine with hardly a pause; not started."""
    places = {"base_url": vendor.queue, "rest_url": vendor.rest, "storage_url": vendor.media}
    config = {"api_key": KEY, "poll_seconds": 0.001, **places, **settings}
    return FalEngine(FalConfig.model_validate(config), delay_scale=0.001)


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
        job.cancelled = False
    return handle


def outputs(events: list[Event]) -> list[Encoded]:
    """The pictures, which must be files."""
    media = [event.media for event in events if isinstance(event, Output)]
    assert all(isinstance(one, Encoded) for one in media)
    return [one for one in media if isinstance(one, Encoded)]


def plain(width: int, height: int, value: int, channels: int = 3) -> Pixels:
    """A picture of one colour."""
    return Pixels(array=np.full((height, width, channels), value, np.uint8))
