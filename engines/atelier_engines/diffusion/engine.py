"""The engine: one model, one device, one thread that works on it for all tasks."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.diffusion import capabilities, limiting
from atelier_engines.diffusion.capabilities import Facts
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loop import Loop
from atelier_engines.diffusion.tuning import records, tune
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event
from atelier_engines.task import AudioTask, ImageTask, Task

if TYPE_CHECKING:
    from atelier_engines.diffusion.painting import Painter


class DiffusionEngine:
    """See Engine. Tasks that are run at once are worked on step by step, together or in turns."""

    def __init__(self, config: DiffusionConfig) -> None:
        self._config = config
        self._capabilities = capabilities.describe(config, capabilities.expected(config))
        self._painter: Painter | None = None
        self._loop: Loop | None = None
        self._tasks = 0

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities. Before `start`, defaults and digest are guesses."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start.

        Raises:
            ModelMissingError: the model is absent, incomplete, broken, or of another kind.
            EngineUnavailableError: the device or a package is absent.
            OutOfMemoryError: the model is too large for the device.
        """
        if self._loop is not None:
            return
        self._loop = Loop("atelier-diffusion")
        try:
            self._painter = await self._loop.call(partial(_load, self._config, self._loop))
        except BaseException:
            await self.stop()
            raise
        self._capabilities = capabilities.describe(self._config, self._painter.facts)

    async def check(self) -> None:
        """See Engine.check. While a task is at work, the device is taken to be well.

        Raises:
            EngineUnavailableError: it is not started.
            EngineFailedError: the device computes no more.
        """
        loop, painter = self._started()
        if not self._tasks:
            await loop.call(painter.probe)

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: it is not started.
            UnsupportedError: the task is no picture.
            InvalidTaskError: the scheduler cannot work in so many steps.
            OutOfMemoryError: the picture is too large for the device.
            EngineFailedError: the device or the model failed.
        """
        loop, painter = self._started()
        match task:
            case ImageTask():
                begin = partial(painter.begin, task)
            case AudioTask():
                raise UnsupportedError("audio", "this engine makes no sound")
            case _:
                assert_never(task)
        self._tasks += 1
        try:
            async with aclosing(loop.stream(begin)) as events:
                async for event in events:
                    yield event
        finally:
            self._tasks -= 1

    async def stop(self) -> None:
        """See Engine.stop. It can be started again."""
        if self._loop is not None:
            if self._painter is not None:
                await self._loop.call(self._painter.holdings.end)
            self._painter = None
            await self._loop.call(self._loop.forget)
            await self._loop.call(_release)
            await self._loop.stop()
            self._loop = None

    def _started(self) -> tuple[Loop, Painter]:
        if self._loop is None or self._painter is None:
            raise EngineUnavailableError("the engine is not started, or still loading its model")
        return self._loop, self._painter


def _load(config: DiffusionConfig, loop: Loop) -> Painter:
    """Import torch here, on the loop's thread, so that the service answers meanwhile."""
    try:
        from atelier_engines.diffusion import batching, loading  # noqa: PLC0415  (takes seconds)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    painter = loading.load(config)
    rows = limiting.limit(
        config.max_batch,
        painter.family.runtime.device.type,
        records.read(tune.path_of(config), tune.subject_of(painter)),
    )
    loop.serve(painter.denoise, batching.Turns(rows))
    return painter if rows.alone else replace(painter, facts=_shared(painter.facts))


def _shared(facts: Facts) -> Facts:
    """What can be promised where pictures share runs: sums in another order have other last bits."""
    if facts.reproducibility is not Reproducibility.BIT_EXACT:
        return facts
    return replace(facts, reproducibility=Reproducibility.SAME_ENGINE)


def _release() -> None:
    """Give the memory of dropped networks back, to the system or to other users of the GPU."""
    gc.collect()
    try:
        import torch  # noqa: PLC0415  (takes seconds)
    except ImportError:
        return
    torch.cuda.empty_cache()  # does nothing where CUDA was not used
