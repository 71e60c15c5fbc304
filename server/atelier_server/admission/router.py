"""Chooses the engine that does a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from atelier.v1.engine_pb2 import EngineState
from atelier_engines import validation
from atelier_engines.capabilities import Capabilities, Price, PriceUnit
from atelier_engines.errors import EngineError, InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.options import find_option_violations
from atelier_server.admission.resolve import Resolved
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.errors import (
    BudgetExceededError,
    DrainingError,
    InvalidRequestError,
    NotReadyError,
    UnknownEngineError,
    UnsupportedTaskError,
    Violation,
)

Resolve = Callable[[Capabilities], Resolved]
"""Decides a request for an engine of these capabilities."""

_ASSUMED_SECONDS = (
    10.0  # assumed work when prices by the second are compared before any was measured
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An engine, and the task as that engine is to do it."""

    engine: EngineSupervisor
    resolved: Resolved


class Router:
    """Knows all engines."""

    def __init__(self, pools: Mapping[str, EngineSupervisor], default: str) -> None:
        """Choose among `pools`; `default` takes what no other can do."""
        self.engines = pools
        self.default = default

    def get(self, name: str) -> EngineSupervisor:
        """The engine of that name.

        Raises:
            UnknownEngineError: there is none; names those there are.
        """
        if name not in self.engines:
            raise UnknownEngineError(name, tuple(self.engines))
        return self.engines[name]

    def choose(self, name: str, resolve: Resolve, *, require_ready: bool) -> Route:
        """The named engine; or with an empty name the cheapest one that is not down and can do all of it.

        With `require_ready` also raises what the method of that name raises, before anything else
        is held against the engine: until it is ready its limits are guesses.

        Raises:
            UnknownEngineError: no engine has that name.
            UnsupportedTaskError: the engine lacks something; names engines that have it.
            InvalidRequestError: a number lies outside the engine's limits, or an option is wrong.
        """
        pool = self.get(name) if name else self._find_cheapest(resolve)
        if require_ready:
            self.require_ready(pool)
        try:
            resolved = resolve(pool.capabilities)
            _validate(pool, resolved.task)
        except UnsupportedError as error:
            raise self._unsupported(pool, error, resolve) from error
        violations = find_option_violations(pool.capabilities.options_schema, resolved.task.options)
        if violations:
            raise InvalidRequestError(violations)
        return Route(engine=pool, resolved=resolved)

    def require_ready(self, pool: EngineSupervisor) -> None:
        """Return if the engine takes generations now.

        Raises:
            NotReadyError: it is loading or down.
            DrainingError: the server is about to stop.
            BudgetExceededError: its daily budget is exhausted.
        """
        _require_ready(pool, self._ready_fallbacks(pool))
        _require_budget(pool)

    def find_fallbacks(self, tried: Sequence[str], resolve: Resolve) -> Iterator[Route]:
        """The engines that take over, in the order configured for the one tried first, that can do the task."""
        first = self.engines.get(tried[0])
        for name in first.settings.fallbacks if first is not None else ():
            if name not in tried and self.engines[name].state == EngineState.ENGINE_STATE_READY:
                resolved = _try_resolve(self.engines[name], resolve)
                if resolved is not None:
                    yield Route(engine=self.engines[name], resolved=resolved)

    def _ready_fallbacks(self, pool: EngineSupervisor) -> Sequence[str]:
        """Those of its fallbacks that could work now."""
        return [
            name
            for name in pool.settings.fallbacks
            if self.engines[name].state == EngineState.ENGINE_STATE_READY
        ]

    def _find_cheapest(self, resolve: Resolve) -> EngineSupervisor:
        up = [
            pool
            for pool in self.engines.values()
            if pool.state != EngineState.ENGINE_STATE_UNAVAILABLE and not pool.over_budget
        ]
        able = [
            (pool, resolved) for pool in up if (resolved := _try_resolve(pool, resolve)) is not None
        ]
        if not able:
            return self.engines[self.default]
        # min takes the first of equals, so the order of the configuration decides among them
        cheapest, _ = min(
            able,
            key=lambda found: estimate_price(found[0].capabilities.price, found[1].task, found[0]),
        )
        return cheapest

    def _unsupported(
        self, pool: EngineSupervisor, error: UnsupportedError, resolve: Resolve
    ) -> UnsupportedTaskError:
        others = [
            other.name
            for other in self.engines.values()
            if other is not pool and _try_resolve(other, resolve)
        ]
        hint = (
            f"engines that can do all of this: {', '.join(others)}"
            if others
            else "no engine here can do all of this"
        )
        refusal = UnsupportedTaskError(f"engine {pool.name!r}: {error}; {hint}")
        refusal.metadata = {
            "engine": pool.name,
            "feature": error.feature,
            "engines": ",".join(others),
        }
        return refusal


def estimate_price(price: Price | None, task: Task, pool: EngineSupervisor) -> float:
    """Expected cost of the task, in the price's currency; 0 when the engine is free."""
    if price is None:
        return 0.0
    match price.unit:
        case PriceUnit.IMAGE:
            return price.amount * _count_outputs(task)
        case PriceUnit.MEGAPIXEL:
            pixels = task.width * task.height if isinstance(task, ImageTask) else 0
            return price.amount * _count_outputs(task) * pixels / 1e6
        case PriceUnit.SECOND:
            return price.amount * (pool.service_seconds or _ASSUMED_SECONDS)


def _count_outputs(task: Task) -> int:
    return len(task.seeds) if isinstance(task, ImageTask) else 1


def _try_resolve(pool: EngineSupervisor, resolve: Resolve) -> Resolved | None:
    try:
        resolved = resolve(pool.capabilities)
        validation.validate(pool.capabilities, resolved.task)
    except (EngineError, InvalidRequestError):
        return None
    return (
        None
        if find_option_violations(pool.capabilities.options_schema, resolved.task.options)
        else resolved
    )


def _require_budget(pool: EngineSupervisor) -> None:
    if pool.over_budget:
        msg = f"the money that engine {pool.name!r} may spend today is spent; it goes on at midnight UTC"
        raise BudgetExceededError(msg)


def _validate(pool: EngineSupervisor, task: Task) -> None:
    try:
        validation.validate(pool.capabilities, task)
    except InvalidTaskError as error:
        raise InvalidRequestError(
            [Violation(_request_path(task, error.field), str(error))]
        ) from error


def _request_path(task: Task, field: str) -> str:
    """Where the field lies in the request: options stand beside the task, all else in it."""
    if field.startswith("options."):
        return field
    return f"{'image' if isinstance(task, ImageTask) else 'audio'}.{field}"


def _require_ready(pool: EngineSupervisor, instead: Sequence[str]) -> None:
    match pool.state:
        case EngineState.ENGINE_STATE_READY:
            return
        case EngineState.ENGINE_STATE_DRAINING:
            msg = "the server is about to stop; try again, another one may answer"
            raise DrainingError(msg)
        case _:
            msg = f"engine {pool.name!r} cannot work now: {pool.message}"
            if instead:
                msg += f"; its fallbacks can: {', '.join(instead)}"
            raise NotReadyError(msg)
