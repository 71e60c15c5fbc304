"""A third party's engine whose audio comes as files, as remote services send it: the prompt says in which format."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator

import numpy as np
import soundfile

from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    Capabilities,
    NumberRange,
)
from atelier_engines.config import Section
from atelier_engines.engine import EngineType
from atelier_engines.event import Event, Output
from atelier_engines.media import Encoded
from atelier_engines.task import AudioTask, Task

RATE = 44100


class FilesConfig(Section):
    """It has no settings."""


def make_file(container: str, seconds: float) -> bytes:
    """A tone of 440 Hz in one channel; damaged in a container of that name."""
    if container == "damaged":
        return make_file("flac", seconds)[:-500]
    file = io.BytesIO()
    wave = 0.25 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)
    soundfile.write(file, wave, RATE, format=container)
    return file.getvalue()


class FilesEngine:
    """Returns the file of the task."""

    def __init__(self, config: FilesConfig) -> None:
        del config
        self.capabilities = Capabilities(
            description="Files",
            audio=AudioCapabilities(
                duration_seconds=NumberRange(min=0.1, max=10.0, default=1.0),
                sample_rates=(RATE,),
                channels=(1,),
                features=frozenset({AudioFeature.SEED}),
            ),
            cancel=CancelSupport.NONE,
        )

    async def start(self) -> None:
        """See Engine.start."""

    async def check(self) -> None:
        """See Engine.check."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run."""
        assert isinstance(task, AudioTask)
        data = make_file(task.prompt, task.duration_seconds)
        yield Output(media=Encoded(media_type=f"audio/{task.prompt}", data=data), seed=task.seed)

    async def stop(self) -> None:
        """See Engine.stop."""


ENGINE = EngineType(config=FilesConfig, create=FilesEngine)
