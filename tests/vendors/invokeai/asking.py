"""Engines that speak to the stand-in, and what they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import numpy as np

from atelier_engines.event import Event, Output, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.engine import InvokeAiEngine
from tests.vendors.invokeai.stand_in import StandIn

TASK = ImageTask(
    prompt="a lighthouse",
    width=64,
    height=80,
    seeds=(7,),
    steps=4,
    guidance=6.0,
    scheduler="euler",
)


def engine_for(vendor: StandIn, **settings: object) -> InvokeAiEngine:
    """An engine with hardly a pause; not started."""
    config = {"base_url": vendor.api, "poll_seconds": 0.02, **settings}
    return InvokeAiEngine(InvokeAiConfig.model_validate(config), delay_scale=0.01)


@asynccontextmanager
async def started(vendor: StandIn, **settings: object) -> AsyncIterator[InvokeAiEngine]:
    """An engine with hardly a pause, stopped at the end."""
    engine = engine_for(vendor, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def events_of(vendor: StandIn, task: ImageTask = TASK, /, **settings: object) -> list[Event]:
    """All that the task yields."""
    async with started(vendor, **settings) as engine, aclosing(engine.run(task)) as events:
        return [event async for event in events]


def outputs(events: list[Event]) -> list[Encoded]:
    """The pictures, which must be files."""
    media = [event.media for event in events if isinstance(event, Output)]
    assert all(isinstance(one, Encoded) for one in media)
    return [one for one in media if isinstance(one, Encoded)]


def steps(events: list[Event]) -> list[tuple[int, int]]:
    """Progress."""
    return [(event.index, event.total) for event in events if isinstance(event, Step)]


def plain(width: int, height: int, value: int, channels: int = 3) -> Pixels:
    """A picture of one colour."""
    return Pixels(array=np.full((height, width, channels), value, np.uint8))
