"""The asyncio side of an engine that has one model, on one device, run by one thread for all tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event
from atelier_engines.local.memory import free_memory
from atelier_engines.local.step_scheduler import StepScheduler
from atelier_engines.task import AudioTask, ImageTask, Task

if TYPE_CHECKING:
    from atelier_engines.local.step_pipeline import StepPipeline

TaskT = TypeVar("TaskT", ImageTask, AudioTask)
PipelineT = TypeVar("PipelineT", bound="StepPipeline[Any]")


class ModelEngine(Generic[TaskT, PipelineT]):
    """Runs the tasks of one kind; concurrent tasks share runs of the model or alternate. See Engine."""

    def __init__(
        self,
        kind: type[TaskT],
        *,
        name: str,
        load: Callable[[StepScheduler[Any, Any]], PipelineT],
        describe: Callable[[PipelineT | None], Capabilities],
    ) -> None:
        """Create the engine without loading anything.

        Args:
            kind: the tasks that it runs; others are unsupported.
            name: ends the name of its thread.
            load: loads the model and configures the scheduler, on the scheduler's thread; may import torch. Raises as
                `start`, or ImportError.
            describe: the capabilities with the loaded model, or before one is loaded.
        """
        self._kind: type[TaskT] = kind
        self._name = name
        self._load = load
        self._describe = describe
        self._capabilities = describe(None)
        self._pipeline: PipelineT | None = None
        self._scheduler: StepScheduler[Any, Any] | None = None
        self._tasks = 0

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities. Before `start`, defaults, limits and digests are guesses."""
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
        self._scheduler = StepScheduler(f"atelier-{self._name}")
        try:
            self._pipeline = await self._scheduler.call(partial(self._prepare, self._scheduler))
        except BaseException:
            await self.stop()
            raise
        self._capabilities = self._describe(self._pipeline)

    async def check(self) -> None:
        """See Engine.check. While a task is running, the device is assumed to work.

        Raises:
            EngineUnavailableError: it is not started.
            EngineFailedError: the device failed its self-test.
        """
        scheduler, pipeline = self._require_started()
        if not self._tasks:
            await scheduler.call(partial(_self_test, pipeline))

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            EngineUnavailableError: it is not started.
            UnsupportedError: the task is of another kind, or asks for what the model has not.
            InvalidTaskError: a value of the task does not suit the model.
            OutOfMemoryError: the task is too large for the device.
            EngineFailedError: the device or the model failed.
        """
        scheduler, pipeline = self._require_started()
        if not isinstance(task, self._kind):
            kind = "image" if isinstance(task, ImageTask) else "audio"
            raise UnsupportedError(kind, f"this engine does not support {kind} tasks")
        self._tasks += 1
        try:
            async with aclosing(scheduler.stream(partial(pipeline.start, task))) as events:
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

    def inspect(self) -> PipelineT:
        """The loaded pipeline, for diagnostics and tests; not to be used while tasks run.

        Raises:
            EngineUnavailableError: the engine is not started.
        """
        return self._require_started()[1]

    def _prepare(self, scheduler: StepScheduler[Any, Any]) -> PipelineT:
        """Load here, on the scheduler's thread, so that the service answers meanwhile: torch alone takes seconds."""
        try:
            return self._load(scheduler)
        except ImportError as error:
            raise EngineUnavailableError(
                f"a package is missing: {error}; install atelier-engines[local]"
            ) from error

    def _require_started(self) -> tuple[StepScheduler[Any, Any], PipelineT]:
        if self._scheduler is None or self._pipeline is None:
            raise EngineUnavailableError("the engine is not started, or still loading its model")
        return self._scheduler, self._pipeline


def _self_test(pipeline: StepPipeline[Any]) -> None:
    from atelier_engines.local.step_pipeline import self_test  # noqa: PLC0415  (imports torch)

    self_test(pipeline.components.device)
