"""Engines that talk to stand-ins, and tasks for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from atelier_engines.conformance.tasks import random_image
from atelier_engines.event import Event, Output, Step
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.engine import ComfyuiEngine
from tests.vendors.comfyui.state import StandIn

Json = Any
"""What JSON decodes to."""

TASK = ImageTask(prompt="a lighthouse", width=128, height=64, seeds=(7,), steps=4, guidance=3.0)
PICTURE = random_image(128, 64, 1)


def engine_for(*servers: StandIn, **settings: Json) -> ComfyuiEngine:
    """Not started; with short pauses."""
    config: dict[str, Any] = {
        "servers": [{"url": server.url} for server in servers],
        "poll_seconds": 0.05,
        "response_timeout_seconds": 2,
        **settings,
    }
    return ComfyuiEngine(ComfyuiConfig.model_validate(config), delay_scale=0.01)


@asynccontextmanager
async def started(*servers: StandIn, **settings: Json) -> AsyncGenerator[ComfyuiEngine]:
    """Started, and stopped at the end."""
    engine = engine_for(*servers, **settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def events_of(engine: ComfyuiEngine, task: ImageTask) -> list[Event]:
    """Everything that the task yields."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


def outputs(events: list[Event]) -> list[Output]:
    """What was made."""
    return [event for event in events if isinstance(event, Output)]


def steps(events: list[Event]) -> list[Step]:
    """How it went."""
    return [event for event in events if isinstance(event, Step)]
