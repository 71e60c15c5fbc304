"""Selects the engine that executes a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from atelier.v1 import engine_pb2
from atelier.v1.generation_pb2 import Generation, Parameter
from atelier_engines import validation
from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.cost import estimate_price
from atelier_server.admission.options import find_option_violations
from atelier_server.engines.status import EngineStatus, EngineStatuses
from atelier_server.errors import InvalidRequestError, UnsupportedTaskError, Violation

REPRODUCIBILITIES = {
    Reproducibility.BIT_EXACT: engine_pb2.REPRODUCIBILITY_BIT_EXACT,
    Reproducibility.SAME_ENGINE: engine_pb2.REPRODUCIBILITY_SAME_ENGINE,
    Reproducibility.BEST_EFFORT: engine_pb2.REPRODUCIBILITY_BEST_EFFORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A task in which everything is decided."""

    task: Task
    """The task for the engine."""
    parameters: tuple[Parameter, ...]
    """How each of its values was decided, for the receipt."""


Resolve = Callable[[Capabilities], Resolved]
"""Decides a request for an engine of these capabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A decision: an engine, and the task that this engine can execute."""

    engine: EngineStatus
    resolved: Resolved

    def describe_in(self, generation: Generation) -> None:
        """Write the decision into the record: engine, parameters and reproducibility of the receipt."""
        generation.engine = self.engine.name
        del generation.receipt.parameters[:]
        generation.receipt.parameters.extend(self.resolved.parameters)
        generation.receipt.reproducibility = REPRODUCIBILITIES[
            self.engine.capabilities.reproducibility
        ]


class Router:
    """Selects among all engines, by their statuses."""

    def __init__(self, engines: EngineStatuses, default: str) -> None:
        """Select among `engines`; `default` is selected when no engine can do the task."""
        self.engines = engines
        self.default = default

    def select(self, name: str, resolve: Resolve) -> EngineStatus:
        """The named engine; without a name the cheapest one that is not down and can do all of the task.

        Raises:
            UnknownEngineError: no engine has that name.
        """
        return self.engines.require(name) if name else self._find_cheapest(resolve)

    def route(self, engine: EngineStatus, resolve: Resolve) -> Route:
        """Decide the task for the engine.

        Raises:
            UnsupportedTaskError: the engine lacks a feature; names engines that have it.
            InvalidRequestError: a number is outside the engine's limits, or an option is wrong.
        """
        try:
            return Route(engine=engine, resolved=_resolve_valid(engine, resolve))
        except UnsupportedError as error:
            raise self._unsupported(engine, error, resolve) from error

    def find_fallbacks(self, tried: Sequence[str], resolve: Resolve) -> Iterator[Route]:
        """Routes to the fallbacks of the engine tried first that are available, untried and can do the task."""
        first = self.engines.get(tried[0])
        for fallback in self.engines.find_fallbacks(first) if first is not None else ():
            if fallback.name not in tried:
                resolved = _try_resolve(fallback, resolve)
                if resolved is not None:
                    yield Route(engine=fallback, resolved=resolved)

    def _find_cheapest(self, resolve: Resolve) -> EngineStatus:
        able = [
            (engine, resolved)
            for engine in self.engines.values()
            if engine.state != engine_pb2.ENGINE_STATE_UNAVAILABLE
            and not engine.budget.exhausted
            and (resolved := _try_resolve(engine, resolve)) is not None
        ]
        if not able:
            return self.engines[self.default]
        # min takes the first of equals, so the order of the configuration decides among them
        cheapest, _ = min(able, key=lambda found: estimate_price(found[0], found[1].task))
        return cheapest

    def _unsupported(
        self, engine: EngineStatus, error: UnsupportedError, resolve: Resolve
    ) -> UnsupportedTaskError:
        others = [
            other.name
            for other in self.engines.values()
            if other is not engine and _try_resolve(other, resolve)
        ]
        hint = (
            f"engines that support it: {', '.join(others)}"
            if others
            else "no engine of this server supports all of this task"
        )
        unsupported = UnsupportedTaskError(f"engine {engine.name!r}: {error}; {hint}")
        unsupported.metadata = {
            "engine": engine.name,
            "feature": error.feature,
            "engines": ",".join(others),
        }
        return unsupported


def _try_resolve(engine: EngineStatus, resolve: Resolve) -> Resolved | None:
    """The task for the engine; None if the engine cannot do it."""
    try:
        return _resolve_valid(engine, resolve)
    except (UnsupportedError, InvalidRequestError):
        return None


def _resolve_valid(engine: EngineStatus, resolve: Resolve) -> Resolved:
    """The task for the engine, checked against its capabilities and its options schema.

    Raises:
        UnsupportedError: the engine lacks a feature.
        InvalidRequestError: a number is outside the engine's limits, or an option is wrong.
    """
    capabilities = engine.capabilities
    resolved = resolve(capabilities)
    task = resolved.task
    try:
        validation.validate(capabilities, task)
    except InvalidTaskError as error:
        violation = Violation(_request_path(task, error.field), str(error))
        raise InvalidRequestError([violation]) from error
    if task.options or "required" in capabilities.options_schema:
        violations = find_option_violations(capabilities.options_schema, task.options)
        if violations:
            raise InvalidRequestError(violations)
    return resolved


def _request_path(task: Task, field: str) -> str:
    """Path of the task's field in the request, where options stand beside the task."""
    if field.startswith("options."):
        return field
    return f"{'image' if isinstance(task, ImageTask) else 'audio'}.{field}"
