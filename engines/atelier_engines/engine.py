"""The interface of every engine, and of every wrapper around one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from atelier_engines.builds import BuildPlanner, LibraryFetcher
from atelier_engines.capabilities import Capabilities
from atelier_engines.event import Event
from atelier_engines.problem import Problem
from atelier_engines.task import Task
from atelier_engines.weights import WeightsLister


class Engine(Protocol):
    """A configured generator of images or audio."""

    @property
    def capabilities(self) -> Capabilities:
        """Its features and limits.

        Complete once `start` has returned; before that, models and limits may be missing.
        """

    async def start(self) -> None:
        """Load the model and warm up.

        Raises:
            ModelMissingError: its weights are absent or broken.
            EngineUnavailableError: something that it depends on cannot be reached.
        """

    async def check(self) -> None:
        """Return if it could run a task now.

        Raises:
            EngineError: it could not; the message says why.
        """

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """Run a task and yield its events; at least one Output comes before the end.

        Closing the generator stops the work: within one step where `capabilities.cancel` says STEP.
        The close returns when the device is idle. With `task.resume`, a close at the second event or later stops the
        job that the handle names. `task` is within the capabilities: the caller has called `validation.validate`.

        Raises:
            EngineError: the task failed.
        """

    async def stop(self) -> None:
        """Release what `start` acquired. No task is running."""


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineType(Generic[ConfigT]):
    """An engine type, as a package registers it in the entry-point group `atelier.engines`.

    Importing it must be cheap: heavy imports belong in `create` or the engine's `start`.
    """

    config: type[ConfigT]
    """Model of the engine's section in the configuration file."""
    create: Callable[[ConfigT], Engine]
    """Creates the engine; reads and loads nothing yet."""
    asks_on_start: bool = False
    """Whether `Engine.start` and `check` ask a service, free of charge, and load nothing: `atelier doctor` does it."""
    address_key: str | None = None
    """Key of its settings that says where its service is: engines with one may have several equal instances."""
    weights: WeightsLister[ConfigT] | None = None
    """Lists the weights that a configuration names; None for engines that need none."""
    tune: Callable[[ConfigT], Iterator[str]] | None = None
    """Measures the fastest settings on this machine, and stores them for engines of that configuration.

    Yields lines of text for people. None for engines that have nothing to measure.

    Raises:
        EngineError: the engine cannot run here.
        OSError: the results cannot be stored.
    """
    find_problems: Callable[[ConfigT], Iterable[Problem]] | None = None
    """Finds what keeps an engine of that configuration from working here, beside its weights; loads nothing."""
    builds: BuildPlanner[ConfigT] | None = None
    """Plans what can be built ahead of the start, for `atelier build`; None for engines that build nothing."""
    fetch_tensorrt: LibraryFetcher[ConfigT] | None = None
    """Fetches TensorRT's libraries, for `atelier build --fetch-tensorrt`; None for engines that never use them."""
