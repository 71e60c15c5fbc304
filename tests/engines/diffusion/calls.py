"""Tasks, and what comes of them."""

from __future__ import annotations

from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, Task


def image_task(**changes: object) -> ImageTask:
    """A small task, with changes."""
    usual: dict[str, object] = {
        "prompt": "a red apple",
        "width": 64,
        "height": 64,
        "seeds": (7,),
        "steps": 3,
        "guidance": 5.0,
        "scheduler": "euler",
    }
    return ImageTask(**{**usual, **changes})  # type: ignore[arg-type]  # a test's own words


async def collect_events(engine: Engine, task: Task) -> list[Event]:
    """Everything that happens, to the end."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


async def generate_images(engine: Engine, task: Task) -> list[NDArray[np.uint8]]:
    """The images of a task, in order."""
    media = [
        event.media for event in await collect_events(engine, task) if isinstance(event, Output)
    ]
    return [found.array for found in media if isinstance(found, Pixels)]
