"""An engine in one file: stripes whose colours depend on the prompt and the seed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
from pydantic import Field

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Reproducibility,
)
from atelier_engines.config import Section
from atelier_engines.engine import EngineType
from atelier_engines.errors import UnsupportedError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Pixels
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import Emit, stream_from_thread

_SIDE = IntegerRange(min=16, max=2048, default=512)
_COLOURS = 5


class StripesConfig(Section):
    """Settings of a stripes engine."""

    stripe_pixels: int = Field(default=16, ge=1, le=512, description="Width of a stripe.")


class StripesEngine:
    """Draws stripes of one width; each pass over the image is a step."""

    def __init__(self, config: StripesConfig) -> None:
        """Keep the settings; a real engine loads its weights in `start`."""
        self._stripe_pixels = config.stripe_pixels
        self.capabilities = Capabilities(
            description="Stripes in the colours of the prompt",
            image=ImageCapabilities(
                width=_SIDE,
                height=_SIDE,
                max_pixels=_SIDE.max**2,
                steps=IntegerRange(min=1, max=100, default=4),
                features=frozenset({ImageFeature.SEED}),
                max_images=4,
            ),
            cancel=CancelSupport.STEP,
            reproducibility=Reproducibility.BIT_EXACT,
        )

    async def start(self) -> None:
        """See Engine.start. A real engine loads its weights here."""

    async def check(self) -> None:
        """See Engine.check. A real engine raises here if it cannot run a task."""

    async def stop(self) -> None:
        """See Engine.stop. A real engine frees its memory here."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Draws in a thread, which ends at its next `emit` after this is closed."""
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine does not support audio tasks")
        yield Stage(name="draw")
        async with aclosing(stream_from_thread(lambda emit: self._draw(task, emit))) as events:
            async for event in events:
                yield event

    def _draw(self, task: ImageTask, emit: Emit) -> None:
        passes = task.steps or 1
        stripe_of_column = np.arange(task.width) // self._stripe_pixels % _COLOURS
        for number, seed in enumerate(task.seeds):
            colours = _colours(task.prompt, seed)
            image = np.zeros((task.height, task.width, 3), np.float32)
            for done in range(1, passes + 1):
                image += colours[stripe_of_column] / passes
                emit(Step(index=number * passes + done, total=len(task.seeds) * passes))
            emit(Output(media=Pixels(array=image.astype(np.uint8)), seed=seed))


def _colours(prompt: str, seed: int) -> np.ndarray:
    """(colours, 3), 0 dark to 255 bright; the same for one prompt and seed on every machine."""
    digest = hashlib.sha256(f"{seed} {prompt}".encode()).digest()
    return np.frombuffer(digest, np.uint8)[: _COLOURS * 3].reshape(_COLOURS, 3).astype(np.float32)


ENGINE: EngineType[StripesConfig] = EngineType(config=StripesConfig, create=StripesEngine)
"""The engine type that the package registers."""
