"""The asyncio side of an audio engine: one model, on one device, run by one thread for all tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, assert_never

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.info import AudioModelInfo, build_capabilities
from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event
from atelier_engines.local.memory import free_memory
from atelier_engines.local.step_scheduler import FairBatcher, StepScheduler
from atelier_engines.task import AudioTask, ImageTask, Task

if TYPE_CHECKING:
    from atelier_engines.audio_diffusion.pipeline import AudioPipeline
    from atelier_engines.audio_diffusion.sampling import DenoiseScheduler

_CUDA_ROWS = 16
"""Rows of a run on CUDA where nothing is configured: eight clips with guidance. It is not measured."""


class AudioEngine:
    """Makes audio with one model; concurrent tasks share runs of the denoiser or alternate. See Engine."""

    def __init__(
        self,
        config: AudioModelConfig,
        unloaded: AudioModelInfo,
        load: Callable[[], AudioPipeline],
    ) -> None:
        """Create the engine without loading anything.

        Args:
            config: its settings.
            unloaded: what is known of the model before it is loaded.
            load: loads it, on the engine's thread; may import torch, and raises as `start`.
        """
        self._config = config
        self._load = load
        self._unloaded = unloaded
        self._capabilities = build_capabilities(config, unloaded)
        self._pipeline: AudioPipeline | None = None
        self._scheduler: DenoiseScheduler | None = None
        self._tasks = 0

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities. Before `start`, defaults and limits are those of the published model."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start.

        Raises:
            ModelMissingError: the model is absent, incomplete, broken, or of another kind.
            EngineUnavailableError: its licence is not accepted, or the device or a package is absent.
            OutOfMemoryError: the model is too large for the device.
        """
        if self._scheduler is not None:
            return
        self._require_license()
        self._scheduler = StepScheduler("atelier-audio")
        try:
            self._pipeline = await self._scheduler.call(partial(self._prepare, self._scheduler))
        except BaseException:
            await self.stop()
            raise
        self._capabilities = build_capabilities(self._config, self._pipeline.model.info)

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
            UnsupportedError: the task is not an audio task.
            InvalidTaskError: a text is longer than the model reads.
            OutOfMemoryError: the clip is too large for the device.
            EngineFailedError: the device or the model failed.
        """
        scheduler, pipeline = self._require_started()
        match task:
            case AudioTask():
                start = partial(pipeline.start, task)
            case ImageTask():
                raise UnsupportedError("image", "this engine does not support image tasks")
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
                await self._scheduler.call(self._pipeline.model.components.release)
            self._pipeline = None
            await self._scheduler.call(self._scheduler.reset)
            await self._scheduler.call(free_memory)
            await self._scheduler.stop()
            self._scheduler = None

    def inspect(self) -> AudioPipeline:
        """The loaded pipeline, for diagnostics and tests; not to be used while tasks run.

        Raises:
            EngineUnavailableError: the engine is not started.
        """
        return self._require_started()[1]

    def _require_license(self) -> None:
        """Return if the licence is accepted.

        Raises:
            EngineUnavailableError: it is not; the message says what it asks.
        """
        if not self._config.accept_license:
            raise EngineUnavailableError(
                f"the weights of {self._unloaded.title} have a licence: {self._unloaded.model.license}; read it, "
                "and set accept_license: true if you accept it"
            )

    def _prepare(self, scheduler: DenoiseScheduler) -> AudioPipeline:
        """Import torch here, on the scheduler's thread, so that the service answers meanwhile."""
        try:
            pipeline = self._load()
        except ImportError as error:
            raise EngineUnavailableError(
                f"a package is missing: {error}; install atelier-engines[local]"
            ) from error
        rows = choose_rows(self._config.max_batch, pipeline.model.components.device.type)
        scheduler.configure(pipeline.predict, FairBatcher(lambda *_: rows))
        return pipeline

    def _require_started(self) -> tuple[DenoiseScheduler, AudioPipeline]:
        if self._scheduler is None or self._pipeline is None:
            raise EngineUnavailableError("the engine is not started, or still loading its model")
        return self._scheduler, self._pipeline


def choose_rows(max_batch: int | None, device: str) -> int:
    """Most rows of a run: as configured, else one clip at a time on a CPU, whose threads one clip keeps busy."""
    if max_batch is not None:
        return max_batch
    return 1 if device == "cpu" else _CUDA_ROWS
