"""The `diffusion` engine: one model, on one device, run by one thread for all tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, assert_never

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.diffusion import capabilities
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.model_info import ModelInfo
from atelier_engines.diffusion.tuning import records, tune
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event
from atelier_engines.local.memory import free_memory
from atelier_engines.local.step_scheduler import FairBatcher, StepScheduler
from atelier_engines.task import AudioTask, ImageTask, Task

if TYPE_CHECKING:
    from atelier_engines.diffusion.batching import DenoiseScheduler
    from atelier_engines.diffusion.pipeline import Pipeline


class DiffusionEngine:
    """Generates images with one model; concurrent tasks share runs of the denoiser or alternate. See Engine."""

    def __init__(self, config: DiffusionConfig) -> None:
        self._config = config
        self._capabilities = capabilities.build_capabilities(
            config, capabilities.unloaded_info(config)
        )
        self._pipeline: Pipeline | None = None
        self._scheduler: DenoiseScheduler | None = None
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
        if self._scheduler is not None:
            return
        self._scheduler = StepScheduler("atelier-diffusion")
        try:
            self._pipeline = await self._scheduler.call(
                partial(_load, self._config, self._scheduler)
            )
        except BaseException:
            await self.stop()
            raise
        self._capabilities = capabilities.build_capabilities(self._config, self._pipeline.info)

    async def check(self) -> None:
        """See Engine.check. While a task is running, the device is assumed to work.

        Raises:
            EngineUnavailableError: it is not started.
            EngineFailedError: the device failed its self-test.
        """
        scheduler, pipeline = self._require_started()
        if not self._tasks:
            await scheduler.call(pipeline.self_test)

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: it is not started.
            UnsupportedError: the task is not an image task.
            InvalidTaskError: the scheduler does not support the number of steps.
            OutOfMemoryError: the image is too large for the device.
            EngineFailedError: the device or the model failed.
        """
        scheduler, pipeline = self._require_started()
        match task:
            case ImageTask():
                start = partial(pipeline.start, task)
            case AudioTask():
                raise UnsupportedError("audio", "this engine does not support audio tasks")
            case _:
                assert_never(task)
        self._tasks += 1
        try:
            async with aclosing(scheduler.stream(start)) as events:
                async for event in events:
                    yield event
        finally:
            self._tasks -= 1

    async def stop(self) -> None:
        """See Engine.stop. It can be started again."""
        if self._scheduler is not None:
            if self._pipeline is not None:
                await self._scheduler.call(self._pipeline.components.release)
            self._pipeline = None
            await self._scheduler.call(self._scheduler.reset)
            await self._scheduler.call(free_memory)
            await self._scheduler.stop()
            self._scheduler = None

    def inspect(self) -> Pipeline:
        """The loaded pipeline, for diagnostics and tests; not to be used while tasks run.

        Raises:
            EngineUnavailableError: the engine is not started.
        """
        return self._require_started()[1]

    def _require_started(self) -> tuple[DenoiseScheduler, Pipeline]:
        if self._scheduler is None or self._pipeline is None:
            raise EngineUnavailableError("the engine is not started, or still loading its model")
        return self._scheduler, self._pipeline


def _load(config: DiffusionConfig, scheduler: DenoiseScheduler) -> Pipeline:
    """Import torch here, on the scheduler's thread, so that the service answers meanwhile."""
    try:
        from atelier_engines.diffusion import (  # noqa: PLC0415  (takes seconds)
            batching,
            fallback_model,
        )
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    pipeline = fallback_model.load_model(config)
    limit = batching.choose_limit(
        config.max_batch,
        pipeline.family.runtime.device.type,
        records.read(tune.tuning_path(config), tune.tuning_key(pipeline)),
    )
    scheduler.configure(pipeline.predict, FairBatcher(limit))
    if limit.always_one:
        return pipeline
    return replace(pipeline, info=_lower_reproducibility(pipeline.info))


def _lower_reproducibility(info: ModelInfo) -> ModelInfo:
    """The reproducibility of an engine whose images share runs: the batch changes the last bits."""
    if info.reproducibility is not Reproducibility.BIT_EXACT:
        return info
    return replace(info, reproducibility=Reproducibility.SAME_ENGINE)
