"""Chooses the engine that does a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from atelier.v1.engine_pb2 import EngineState
from atelier_engines import validation
from atelier_engines.capabilities import Capabilities, Price, PriceUnit
from atelier_engines.errors import EngineError, InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask, Task
from atelier_server.errors import (
    BudgetExceededError,
    DrainingError,
    InvalidRequestError,
    NotReadyError,
    UnknownEngineError,
    UnsupportedTaskError,
    Violation,
)
from atelier_server.generations.options import option_violations
from atelier_server.generations.pool import Pool
from atelier_server.generations.resolve import Resolved

Resolve = Callable[[Capabilities], Resolved]
"""Decides a request for an engine of these capabilities."""

_SECONDS_OF_A_GUESS = (
    10.0  # assumed work when prices by the second are compared before any was measured
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """An engine, and the task as that engine is to do it."""

    pool: Pool
    resolved: Resolved


class Router:
    """Knows all engines."""

    def __init__(self, pools: Mapping[str, Pool], default: str) -> None:
        """Choose among `pools`; `default` takes what no other can do."""
        self.pools = pools
        self.default = default

    def named(self, name: str) -> Pool:
        """The engine of that name.

        Raises:
            UnknownEngineError: there is none; names those there are.
        """
        if name not in self.pools:
            raise UnknownEngineError(name, tuple(self.pools))
        return self.pools[name]

    def choose(self, name: str, resolve: Resolve, *, require_ready: bool) -> Route:
        """The named engine; or with an empty name the cheapest one that is not down and can do all of it.

        With `require_ready` also raises what the method of that name raises, before anything else
        is held against the engine: until it is ready its limits are guesses.

        Raises:
            UnknownEngineError: no engine has that name.
            UnsupportedTaskError: the engine lacks something; names engines that have it.
            InvalidRequestError: a number lies outside the engine's limits, or an option is wrong.
        """
        pool = self.named(name) if name else self._cheapest(resolve)
        if require_ready:
            self.require_ready(pool)
        try:
            resolved = resolve(pool.capabilities)
            _check(pool, resolved.task)
        except UnsupportedError as error:
            raise self._unsupported(pool, error, resolve) from error
        violations = option_violations(pool.capabilities.options_schema, resolved.task.options)
        if violations:
            raise InvalidRequestError(violations)
        return Route(pool=pool, resolved=resolved)

    def require_ready(self, pool: Pool) -> None:
        """Return if the engine takes generations now.

        Raises:
            NotReadyError: it is loading or down.
            DrainingError: the server is about to stop.
            BudgetExceededError: its daily budget is exhausted.
        """
        _require_ready(pool, self._standing_in(pool))
        _require_budget(pool)

    def fallbacks(self, tried: Sequence[str], resolve: Resolve) -> Iterator[Route]:
        """The engines that take over, in the order configured for the one tried first, that can do the task."""
        first = self.pools.get(tried[0])
        for name in first.settings.fallbacks if first is not None else ():
            if name not in tried and self.pools[name].state == EngineState.ENGINE_STATE_READY:
                resolved = _able(self.pools[name], resolve)
                if resolved is not None:
                    yield Route(pool=self.pools[name], resolved=resolved)

    def _standing_in(self, pool: Pool) -> Sequence[str]:
        """Those of its fallbacks that could work now."""
        return [
            name
            for name in pool.settings.fallbacks
            if self.pools[name].state == EngineState.ENGINE_STATE_READY
        ]

    def _cheapest(self, resolve: Resolve) -> Pool:
        up = [
            pool
            for pool in self.pools.values()
            if pool.state != EngineState.ENGINE_STATE_UNAVAILABLE and not pool.over_budget
        ]
        able = [(pool, resolved) for pool in up if (resolved := _able(pool, resolve)) is not None]
        if not able:
            return self.pools[self.default]
        # min takes the first of equals, so the order of the configuration decides among them
        cheapest, _ = min(
            able, key=lambda found: price_of(found[0].capabilities.price, found[1].task, found[0])
        )
        return cheapest

    def _unsupported(
        self, pool: Pool, error: UnsupportedError, resolve: Resolve
    ) -> UnsupportedTaskError:
        others = [
            other.name
            for other in self.pools.values()
            if other is not pool and _able(other, resolve)
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


def price_of(price: Price | None, task: Task, pool: Pool) -> float:
    """Expected cost of the task, in the price's currency; 0 when the engine is free."""
    if price is None:
        return 0.0
    match price.unit:
        case PriceUnit.IMAGE:
            return price.amount * _count(task)
        case PriceUnit.MEGAPIXEL:
            pixels = task.width * task.height if isinstance(task, ImageTask) else 0
            return price.amount * _count(task) * pixels / 1e6
        case PriceUnit.SECOND:
            return price.amount * (pool.service_seconds or _SECONDS_OF_A_GUESS)


def _count(task: Task) -> int:
    return len(task.seeds) if isinstance(task, ImageTask) else 1


def _able(pool: Pool, resolve: Resolve) -> Resolved | None:
    try:
        resolved = resolve(pool.capabilities)
        validation.validate(pool.capabilities, resolved.task)
    except (EngineError, InvalidRequestError):
        return None
    return (
        None
        if option_violations(pool.capabilities.options_schema, resolved.task.options)
        else resolved
    )


def _require_budget(pool: Pool) -> None:
    if pool.over_budget:
        msg = f"the money that engine {pool.name!r} may spend today is spent; it goes on at midnight UTC"
        raise BudgetExceededError(msg)


def _check(pool: Pool, task: Task) -> None:
    try:
        validation.validate(pool.capabilities, task)
    except InvalidTaskError as error:
        raise InvalidRequestError([Violation(_path(task, error.field), str(error))]) from error


def _path(task: Task, field: str) -> str:
    """Where the field lies in the request: options stand beside the task, all else in it."""
    if field.startswith("options."):
        return field
    return f"{'image' if isinstance(task, ImageTask) else 'audio'}.{field}"


def _require_ready(pool: Pool, instead: Sequence[str]) -> None:
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
