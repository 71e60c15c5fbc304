"""Runs tasks on audio engines, for tests."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output
from atelier_engines.media import Samples
from atelier_engines.task import AudioTask

TASK = AudioTask(
    prompt="rain on a roof",
    duration_seconds=0.5,
    seed=7,
    sample_rate=44100,
    channels=2,
    steps=4,
    guidance=4.5,
)


def task(**fields: object) -> AudioTask:
    """A short task, with these fields changed."""
    return replace(TASK, **fields)  # type: ignore[arg-type]  # fields by name


async def events(engine: Engine, wanted: AudioTask) -> list[Event]:
    """All events of a task."""
    async with aclosing(engine.run(wanted)) as found:
        return [event async for event in found]


async def clip(engine: Engine, wanted: AudioTask) -> NDArray[np.float32]:
    """The samples of a task, (samples, channels)."""
    last = (await events(engine, wanted))[-1]
    assert isinstance(last, Output)
    assert isinstance(last.media, Samples)
    return last.media.array
