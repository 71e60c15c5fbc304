"""What a decision consists of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atelier.v1 import engine_pb2
from atelier.v1.generation_pb2 import Attempt, Parameter, Selection
from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.task import Task
from atelier_server.artifacts.audio.plan import Finishing
from atelier_server.engines.status import EngineStatus

REPRODUCIBILITIES = {
    Reproducibility.BIT_EXACT: engine_pb2.REPRODUCIBILITY_BIT_EXACT,
    Reproducibility.SAME_ENGINE: engine_pb2.REPRODUCIBILITY_SAME_ENGINE,
    Reproducibility.BEST_EFFORT: engine_pb2.REPRODUCIBILITY_BEST_EFFORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A task in which everything is decided."""

    task: Task
    """The task for the engine; its images have the right sizes and no content."""
    parameters: tuple[Parameter, ...]
    """How each of its values was decided, for the receipt."""
    finishing: Finishing | None = None
    """What the server does with the samples of audio; None for images."""


Resolve = Callable[[Capabilities], Resolved]
"""Decides a request for an engine of these capabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A decision: an engine, and the task that this engine can execute."""

    engine: EngineStatus
    resolved: Resolved
    selection: Selection | None = None
    """Why the engine was selected; None where the record says so already."""
    skipped: Attempt | None = None
    """For the receipt: the engine that was not given the task, because it could not take it."""
