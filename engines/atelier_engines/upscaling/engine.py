"""The engine `upscale`: returns the initial image, upscaled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, Task
from atelier_engines.threads import Emit, result_from_thread, stream_from_thread
from atelier_engines.upscaling import registry
from atelier_engines.upscaling.capabilities import build_capabilities
from atelier_engines.upscaling.config import UpscaleConfig
from atelier_engines.upscaling.lanczos import resize
from atelier_engines.upscaling.registry import Upscalers
from atelier_engines.upscaling.upscaler import TileDone


class UpscaleEngine:
    """Upscales images on one thread; concurrent tasks wait for each other. See Engine."""

    def __init__(self, config: UpscaleConfig) -> None:
        """Create the engine without loading anything."""
        self._config = config
        self._capabilities = build_capabilities(registry.names(config), {}, on_cpu=False)
        self._upscalers: Upscalers | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start.

        Raises:
            ModelMissingError: a network's file is absent, broken, not safetensors, or of another kind.
            EngineUnavailableError: the device or a package is absent.
        """
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="atelier-upscale")
        config = self._config
        work = partial(registry.load, config, device=config.device, precision=config.precision)
        try:
            found = await result_from_thread(work, executor=self._thread)
        except BaseException:
            await self.stop()
            raise
        self._capabilities = build_capabilities(found.names, found.versions, on_cpu=found.on_cpu)
        self._upscalers = found

    async def check(self) -> None:
        """See Engine.check.

        Raises:
            EngineUnavailableError: it is not started.
        """
        self._require_started()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: it is not started.
            UnsupportedError: the task has no image to upscale.
            OutOfMemoryError: a tile is too large for the device.
            EngineFailedError: the device or the network failed.
        """
        found = self._require_started()
        if not isinstance(task, ImageTask):
            raise UnsupportedError("audio", "this engine does not support audio tasks")
        work = partial(_upscale, found, task)
        async with aclosing(stream_from_thread(work, executor=self._thread)) as events:
            async for event in events:
                yield event

    async def stop(self) -> None:
        """See Engine.stop. It can be started again."""
        self._upscalers = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _require_started(self) -> Upscalers:
        if self._upscalers is None:
            raise EngineUnavailableError("the engine is not started, or still loading its networks")
        return self._upscalers


def _upscale(upscalers: Upscalers, task: ImageTask, emit: Emit) -> None:
    """Resize the initial image to the task's size, as image-to-image does, and upscale it."""
    if task.init_image is None or task.upscale is None:
        raise UnsupportedError(
            "upscale", "this engine only upscales images: init_image and upscale are required"
        )
    emit(Stage(name="upscale"))
    initial = resize(task.init_image, (task.width, task.height))
    upscaling = upscalers.get(task.upscale).upscale(initial, task.upscale.factor)
    emit(Output(media=_run_with_progress(upscaling, emit), seed=task.seeds[0]))


def _run_with_progress(upscaling: Generator[TileDone, None, Pixels], emit: Emit) -> Pixels:
    """Run the upscaler and emit each of its tiles as a step."""
    with closing(upscaling):
        while True:
            try:
                done = next(upscaling)
            except StopIteration as end:
                made: Pixels = end.value
                return made
            emit(Step(index=done.index, total=done.total))
