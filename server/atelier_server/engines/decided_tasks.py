"""Hands decided tasks from the call to the worker in memory: as long as both are quick, nothing is decoded again."""

from __future__ import annotations

from dataclasses import dataclass, field

from atelier_engines.capabilities import Capabilities
from atelier_engines.task import Task

_MAX_TASKS = 64  # what waits for longer is decoded


@dataclass(frozen=True, slots=True)
class _Decided:
    encoded: bytes
    task: Task
    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class DecidedTasks:
    """The newest decided tasks, by the ids of their generations; the oldest are dropped first. Each is taken once."""

    _tasks: dict[str, _Decided] = field(default_factory=dict)

    def add(
        self, generation_id: str, encoded: bytes, task: Task, capabilities: Capabilities
    ) -> None:
        """Keep a task that has no images, its encoding, and the capabilities that it was found to be within."""
        self._tasks[generation_id] = _Decided(encoded, task, capabilities)
        if len(self._tasks) > _MAX_TASKS:
            del self._tasks[next(iter(self._tasks))]

    def take(self, generation_id: str, encoded: bytes, capabilities: Capabilities) -> Task | None:
        """The task, if it is still known, has this encoding, and was checked against these very capabilities."""
        found = self._tasks.pop(generation_id, None)
        if found is None or found.encoded != encoded or found.capabilities is not capabilities:
            return None
        return found.task
