"""What the service knows of its engines at one moment; admission, capabilities and health read nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from atelier.v1.engine_pb2 import EngineState
from atelier_engines.capabilities import Capabilities
from atelier_server.engines.budget import DailyBudget
from atelier_server.errors import UnknownEngineError

Listener = Callable[["EngineStatus"], None]
"""Called with each new status of each engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """One engine as of its last publication. The length of its queue is not part of it: the store counts that."""

    name: str
    """Its name in the configuration."""
    type: str
    """The engine type of its configuration, such as diffusion or fal."""
    capabilities: Capabilities
    """What it can do; complete once it has been ready."""
    state: EngineState.ValueType = EngineState.ENGINE_STATE_LOADING
    """Whether it takes generations."""
    message: str = "starting"
    """Why it is not ready; empty while it is."""
    running: int = 0
    """Generations that workers execute on it now."""
    service_seconds: float | None = None
    """Moving average of the time one generation takes; None until one was measured."""
    budget: DailyBudget = field(default_factory=DailyBudget)
    """What may be spent on it today, and what has been."""
    queue_limit: int
    """Maximum number of generations that may wait for it."""
    fallbacks: tuple[str, ...] = ()
    """Engines that take over its failed generations, in order of preference."""

    @property
    def ready(self) -> bool:
        """Whether it takes generations now."""
        return self.state == EngineState.ENGINE_STATE_READY

    def backlog_seconds(self, queued: int) -> float | None:
        """Estimated wait of a new generation with `queued` ahead in the queue; None until one was measured."""
        if self.service_seconds is None:
            return None
        concurrency = self.capabilities.concurrency
        ahead = queued + self.running
        return max(0, ahead - concurrency + 1) * self.service_seconds / concurrency


class EngineStatuses(Mapping[str, EngineStatus]):
    """The latest status of every engine, by name, in the order of the configuration."""

    def __init__(self) -> None:
        """Start without engines; each appears with its first status."""
        self._statuses: dict[str, EngineStatus] = {}
        self._listeners: list[Listener] = []

    def __getitem__(self, name: str) -> EngineStatus:
        return self._statuses[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statuses)

    def __len__(self) -> int:
        return len(self._statuses)

    def require(self, name: str) -> EngineStatus:
        """The status of the engine of that name.

        Raises:
            UnknownEngineError: there is none; names those there are.
        """
        status = self._statuses.get(name)
        if status is None:
            raise UnknownEngineError(name, tuple(self._statuses))
        return status

    def ready_fallbacks(self, status: EngineStatus) -> tuple[EngineStatus, ...]:
        """Those of the engine's fallbacks that take generations now, in order of preference."""
        return tuple(
            fallback for name in status.fallbacks if (fallback := self._statuses[name]).ready
        )

    def publish(self, status: EngineStatus) -> None:
        """Replace the engine's status, and notify every listener."""
        self._statuses[status.name] = status
        for listener in self._listeners:
            listener(status)

    def subscribe(self, listener: Listener) -> None:
        """Call the listener with every status published from now on."""
        self._listeners.append(listener)
