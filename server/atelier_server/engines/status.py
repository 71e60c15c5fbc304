"""What the service knows of its engines at one moment; admission, capabilities and health read nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from operator import attrgetter

from atelier.v1.engine_pb2 import EnginePause, EngineState
from atelier_engines.capabilities import Capabilities, TaskKind
from atelier_server.errors import (
    BudgetExceededError,
    NotReadyError,
    ServiceError,
    UnknownEngineError,
    bound_retry_delay,
)
from atelier_server.estimates.backlog import Backlog
from atelier_server.estimates.service_times import Estimate, ServiceTimes

Listener = Callable[["EngineStatus"], None]
"""Called with the first status of each engine, and whenever its state or message changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyBudget:
    """What may be spent on an engine in one day (UTC), and what has been."""

    limit: float | None = None
    """In the engine's currency; None for no limit."""
    day: date = date.min
    """The day (UTC) that `amount` was spent on."""
    amount: float = 0.0
    """Cost of the generations that ended on that day."""

    @property
    def spent_today(self) -> float:
        """Cost of the generations that have ended since 00:00 UTC."""
        return self.amount if self.day == _today() else 0.0

    @property
    def exhausted(self) -> bool:
        """Whether nothing more may be spent until 00:00 UTC."""
        return self.limit is not None and self.spent_today >= self.limit

    def add(self, amount: float) -> DailyBudget:
        """The budget after one more cost of today."""
        return replace(self, day=_today(), amount=self.spent_today + amount)


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
    times: ServiceTimes = field(default_factory=ServiceTimes)
    """How long its tasks took."""
    budget: DailyBudget = field(default_factory=DailyBudget)
    """What may be spent on it today, and what has been."""
    queue_limit: int
    """Maximum number of generations that may wait for it."""
    required: bool = False
    """Whether the server is ready only while this engine is."""
    fallbacks: tuple[str, ...] = ()
    """Engines that take over what it fails at or cannot take, in order of preference."""
    retry_at: float = 0.0
    """When it may be ready again, by the monotonic clock; of no meaning while it is ready."""
    max_loading_seconds: float = 60.0
    """How long it may be loading before that is long."""
    loading_ends: float = 0.0
    """When it has been loading for long, by the monotonic clock."""
    pause: EnginePause | None = None
    """Set while it begins nothing of what waits for it."""

    def change(self, **changes: object) -> EngineStatus:
        """The status with these fields changed; `dataclasses.replace` takes three times as long."""
        kept = dict(zip(_FIELDS, _read_fields(self), strict=True))
        return EngineStatus(**{**kept, **changes})

    @property
    def ready(self) -> bool:
        """Whether it takes generations now."""
        return self.state == EngineState.ENGINE_STATE_READY

    def find_rejection(self) -> ServiceError | None:
        """Why it takes no generation now; None if it does."""
        if not self.ready:
            return NotReadyError(
                f"engine {self.name!r} is not ready: {self.message}",
                retry_after_seconds=self.retry_at - time.monotonic(),
            )
        if self.budget.exhausted:
            msg = f"daily budget of engine {self.name!r} exhausted; resets at 00:00 UTC"
            return BudgetExceededError(msg)
        return None

    @property
    def hands_over(self) -> bool:
        """Whether its fallbacks take over what it has not begun.

        They do while it takes nothing, but not at a drain or in a pause, nor before it has been loading for long.
        """
        if self.pause is not None:
            return False
        match self.state:
            case EngineState.ENGINE_STATE_READY:
                return self.budget.exhausted
            case EngineState.ENGINE_STATE_LOADING:
                return time.monotonic() >= self.loading_ends
            case _:
                return self.state == EngineState.ENGINE_STATE_UNAVAILABLE


_FIELDS = tuple(each.name for each in fields(EngineStatus))
_read_fields = attrgetter(*_FIELDS)


class EngineStatuses(Mapping[str, EngineStatus]):
    """The latest status of every engine, by name, in the order of the configuration."""

    def __init__(
        self, backlog: Backlog | None = None, *, own: Collection[str] | None = None
    ) -> None:
        """Start without engines; each appears with its first status. `own` are those of this process; None for all."""
        self._own = own
        self.backlog = backlog or Backlog()
        """What the engines have ahead of them."""
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

    def find_candidates(self, kind: TaskKind | None = None) -> tuple[EngineStatus, ...]:
        """The engines for tasks that name none, of that kind or any.

        No placeholders and none that only speak, unless nothing else is there.
        """
        return self._find_candidates(self.values(), kind)

    def _find_candidates(
        self, engines: Iterable[EngineStatus], kind: TaskKind | None = None
    ) -> tuple[EngineStatus, ...]:
        makers = tuple(
            engine for engine in engines if kind is None or engine.capabilities.makes(kind)
        )
        able = tuple(engine for engine in makers if not engine.capabilities.only_speaks)
        real = tuple(engine for engine in able if not engine.capabilities.placeholder)
        return real or able or makers

    def explain_unready(self) -> str:
        """Why the server can't do its work: required engines are not ready, or no candidate is; empty if it can.

        The work of a process without engines is to answer calls.
        """
        engines = [each for each in self.values() if self._own is None or each.name in self._own]
        required = tuple(engine for engine in engines if engine.required)
        candidates = self._find_candidates(engines)
        missing = [engine for engine in required or candidates if not engine.ready]
        if not missing or (not required and len(missing) < len(candidates)):
            return ""
        reasons = ", ".join(f"{engine.name} ({engine.message})" for engine in missing)
        return f"engines are not ready: {reasons}"

    def find_fallbacks(self, status: EngineStatus) -> tuple[EngineStatus, ...]:
        """Those of the engine's fallbacks that are ready and within their budget, in order of preference."""
        fallbacks = (self._statuses.get(name) for name in status.fallbacks)
        return tuple(
            fallback
            for fallback in fallbacks
            if fallback is not None and fallback.ready and not fallback.budget.exhausted
        )

    def estimate_wait(self, status: EngineStatus, caller: str, *, batch: bool = False) -> Estimate:
        """How long a new generation of the caller waits in the engine's queue: unknown while it is paused."""
        if status.pause is not None:
            return Estimate(least=0.0, expected=None)
        return self.backlog.estimate_wait(
            status.name, caller, status.times, status.capabilities.concurrency, batch=batch
        )

    def estimate_retry(self, status: EngineStatus, caller: str) -> float:
        """Seconds until a generation of the caller that the engine can't take now may be taken, within bounds."""
        rejection = status.find_rejection()
        if rejection is not None and rejection.retry_after_seconds is not None:
            return rejection.retry_after_seconds
        return bound_retry_delay(self.estimate_wait(status, caller, batch=True).expected or 0.0)

    def estimate_step(self, status: EngineStatus, caller: str) -> float:
        """Seconds until the next of what the caller has in the engine's queue begins, within bounds."""
        wait = self.estimate_wait(status, caller, batch=True).expected or 0.0
        return bound_retry_delay(wait / max(1, self.backlog.count_waiting(status.name, caller)))

    def estimate_end(self, status: EngineStatus) -> float | None:
        """Seconds in which all that waits for the engine or runs on it will have ended; None if that is unknown."""
        if status.pause is not None:
            return None
        return self.backlog.estimate_end(status.name, status.times, status.capabilities.concurrency)

    def publish(self, status: EngineStatus) -> None:
        """Replace the engine's status; if its state or message changed, call every listener."""
        before = self._statuses.get(status.name)
        self._statuses[status.name] = status
        if before is None or (before.state, before.message) != (status.state, status.message):
            for listener in self._listeners:
                listener(status)

    def arrange(self, names: Sequence[str]) -> None:
        """Put the engines into this order, and forget those that are not among them."""
        if tuple(self._statuses) != tuple(names):
            self._statuses = {name: self._statuses[name] for name in names}

    def subscribe(self, listener: Listener) -> None:
        """Call the listener from now on."""
        self._listeners.append(listener)


class NamesOf(Collection[str]):
    """The names of the engines of which something holds, as far as their capabilities are known now."""

    def __init__(
        self,
        statuses: EngineStatuses,
        holds: Callable[[Capabilities], bool],
        known: Mapping[str, Capabilities],
    ) -> None:
        """Those of `statuses`, and those `known` before they had a status."""
        self._statuses = statuses
        self._holds = holds
        self._known = known

    def __contains__(self, name: object) -> bool:
        """Whether it holds of the engine of that name; not if there is none. Any thread may ask."""
        if not isinstance(name, str):
            return False
        status = self._statuses.get(name)
        can = self._known.get(name) if status is None else status.capabilities
        return can is not None and self._holds(can)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter([name for name in {*self._known, *tuple(self._statuses)} if name in self])

    def __len__(self) -> int:
        """How many they are."""
        return sum(1 for _ in self)


def _today() -> date:
    return datetime.now(UTC).date()
