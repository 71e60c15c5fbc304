"""Engines that speak to the stand-in, and what they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output
from atelier_engines.task import ImageTask
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.engine import OpenaiEngine
from tests.vendors.openai.stand_in import KEY, StandIn

TASK = ImageTask(prompt="a lighthouse", width=512, height=528, seeds=(7,))


def engine_for(vendor: StandIn, **settings: object) -> Engine:
    """An engine with hardly a pause; not started."""
    config = {"api_key": KEY, "base_url": vendor.api, **settings}
    return OpenaiEngine(OpenaiConfig.model_validate(config), delay_scale=0.01)


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


def outputs(events: list[Event]) -> list[Output]:
    """The pictures."""
    return [event for event in events if isinstance(event, Output)]
