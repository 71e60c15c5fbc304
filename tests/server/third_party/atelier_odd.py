"""A third party's engine that does what engines must not do, and fails in every way they may.

The prompt says what happens. Servers under test find it by its entry point, as they would anybody's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from atelier_engines import errors
from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Price,
    PriceUnit,
)
from atelier_engines.config import Section
from atelier_engines.engine import EngineType
from atelier_engines.event import Event, Output, Step
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, Task
from atelier_engines.threads import result_from_thread

LOAD_SECONDS = 1000.0
"""Longer than any test waits."""
PRIVATE = "what only the log may tell"
_SIDE = IntegerRange(min=64, max=128, default=64, multiple_of=64)
_FAILURES: dict[str, BaseException] = {
    "key error": KeyError(PRIVATE),
    "stop": StopIteration(PRIVATE),
    "cancelled": asyncio.CancelledError(PRIVATE),
    "exit": SystemExit(PRIVATE),
    "filtered": errors.ContentFilteredError("the prompt asks for what we do not draw; change it"),
    "memory": errors.OutOfMemoryError("too large for this device; at most 64 x 64 fits"),
    "quota": errors.EngineQuotaError("the vendor's balance is used up; top it up"),
    "away": errors.EngineUnavailableError("the vendor cannot be reached"),
    "late": errors.EngineTimeoutError("the vendor took too long"),
    "missing": errors.ModelMissingError("there are no weights in /models"),
}


class OddConfig(Section):
    """How it starts, and what it charges."""

    start: Literal["fine", "fails", "breaks", "cancels", "exits", "hangs", "loads", "waits"] = (
        "fine"
    )
    wait_for: Path | None = None
    """The file whose existence ends the start that waits."""
    price_per_second: float = Field(default=1.0, ge=0)
    cancel: CancelSupport = CancelSupport.STEP


class OddEngine:
    """Makes small black pictures, or trouble."""

    def __init__(self, config: OddConfig) -> None:
        self._config = config
        self.capabilities = Capabilities(
            description="Trouble",
            image=ImageCapabilities(
                width=_SIDE,
                height=_SIDE,
                max_pixels=2 * 64 * 64,
                features=frozenset({ImageFeature.INPAINTING}),
            ),
            cancel=config.cancel,
            price=Price(amount=config.price_per_second, unit=PriceUnit.SECOND, currency="EUR"),
        )

    async def start(self) -> None:
        """See Engine.start."""
        match self._config.start:
            case "fails":
                raise errors.ModelMissingError("there are no weights in /models")
            case "breaks":
                raise KeyError(PRIVATE)
            case "cancels":
                raise asyncio.CancelledError(PRIVATE)
            case "exits":
                raise SystemExit(PRIVATE)
            case "hangs":
                await asyncio.Event().wait()
            case "loads":
                await result_from_thread(partial(time.sleep, LOAD_SECONDS))
            case "waits":
                assert self._config.wait_for is not None
                while not self._config.wait_for.exists():  # noqa: ASYNC110 - nothing signals a file
                    await asyncio.sleep(0.05)
            case "fine":
                pass

    async def check(self) -> None:
        """See Engine.check."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run; the prompt says how it goes."""
        assert isinstance(task, ImageTask)
        if task.prompt in _FAILURES:
            raise _FAILURES[task.prompt]
        if task.prompt == "nothing":
            return
        yield Step(index=2, total=2)
        if task.prompt == "backwards":
            yield Step(index=1, total=2)
        if task.prompt == "hang":
            await asyncio.Event().wait()
        kind = np.float64 if task.prompt == "no image" else np.uint8
        array = np.zeros((task.height, task.width, 3), kind)
        yield Output(media=Pixels(array=array), seed=task.seeds[0])

    async def stop(self) -> None:
        """See Engine.stop."""
        raise KeyError(PRIVATE)


ENGINE = EngineType(config=OddConfig, create=OddEngine)
