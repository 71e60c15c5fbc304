"""The one interface that every engine, and every wrapper around one, has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from atelier_engines.capabilities import Capabilities
from atelier_engines.event import Event
from atelier_engines.task import Task
from atelier_engines.weights import WeightsLister


class Engine(Protocol):
    """A configured thing that can make pictures or sounds."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do.

        Complete once `start` has returned; before that, models and limits may be missing.
        """

    async def start(self) -> None:
        """Load and warm up.

        Raises:
            ModelMissingError: its weights are absent or broken.
            EngineUnavailableError: what it depends on cannot be reached.
        """

    async def check(self) -> None:
        """Return if it could serve now.

        Raises:
            EngineError: it could not; the text says why.
        """

    def run(self, task: Task) -> AsyncGenerator[Event]:
        """Do the task, yielding what happens; at least one Output comes before it ends.

        Closing the generator stops the work: within one step where `capabilities.cancel` says STEP.
        The close returns when the device is idle. `task` lies within the capabilities;
        `validation.validate` has seen to that.

        Raises:
            EngineError: the work failed.
        """

    async def stop(self) -> None:
        """Give back what `start` took. No task is running."""


ConfigT = TypeVar("ConfigT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineType(Generic[ConfigT]):
    """What a package registers in the entry-point group `atelier.engines`.

    Importing it must be cheap: heavy imports belong into `create` or the engine's `start`.
    """

    config: type[ConfigT]
    """Model of the engine's section in the configuration file."""
    create: Callable[[ConfigT], Engine]
    """Makes the engine; reads nothing and loads nothing yet."""
    weights: WeightsLister[ConfigT] | None = None
    """Lists the weights that a configuration names; None for engines that need none."""
    tune: Callable[[ConfigT], Iterator[str]] | None = None
    """Measures what is fastest on this machine, and keeps it for engines of that configuration.

    Each line is for people. None for engines that have nothing to measure.

    Raises:
        EngineError: the engine cannot work here.
        OSError: what was found cannot be kept.
    """
