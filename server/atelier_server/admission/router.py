"""Selects the engine of a request, and its fallbacks, and fits the task to each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from atelier.v1 import engine_pb2
from atelier.v1.generation_pb2 import (
    SELECTION_REASON_CHEAPEST,
    SELECTION_REASON_DEFAULT,
    SELECTION_REASON_FASTEST,
    SELECTION_REASON_NAMED,
    SELECTION_REASON_RULE,
    Selection,
    SelectionReason,
)
from atelier_engines import validation
from atelier_engines.capabilities import TaskKind
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import ImageTask, Task
from atelier_server.admission.fallbacks import find_fallbacks, find_substitute
from atelier_server.admission.options import find_option_violations
from atelier_server.admission.policies import Policy, select_best
from atelier_server.admission.prompt_rules import MatchedRule
from atelier_server.admission.rejections import explain_fallbacks, refuse
from atelier_server.admission.route import Resolve, Resolved, Route
from atelier_server.engines.status import EngineStatus, EngineStatuses
from atelier_server.errors import (
    InvalidRequestError,
    NotReadyError,
    ServiceError,
    Violation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """An engine, and why it was selected."""

    engine: EngineStatus
    selection: Selection


class Router:
    """Selects among all engines, by their statuses."""

    def __init__(
        self, engines: EngineStatuses, default: str | None, policy: Policy = Policy.DEFAULT
    ) -> None:
        """Select among `engines`. None for `default` takes the first engine that is not a placeholder."""
        self.engines = engines
        self._default = default or next((engine.name for engine in engines.find_candidates()), None)
        self.policy = policy

    @property
    def default(self) -> str:
        """Name of the engine for tasks that name none; empty while no engine is known."""
        if self._default is not None:
            return self._default
        return next((engine.name for engine in self.engines.find_candidates()), "")

    def select(
        self,
        name: str,
        kind: TaskKind | None,
        resolve: Resolve,
        rules: Iterable[MatchedRule] = (),
    ) -> Selected:
        """The named engine; without a name that of the first rule whose engine can do the task, else of the policy.

        The default engine is selected in every state, and also when it cannot do the task: then its error says which
        engines can. Only where it makes nothing of that kind, images or audio, the first candidate that does is. The
        other policies select among the engines that are not down or paused, are within their budget and can do all of
        the task; without one they select the default engine.

        Raises:
            UnknownEngineError: no engine has that name.
            NotReadyError: no worker has registered the default engine, or any.
        """
        if name:
            return _explain(self.engines.require(name), SELECTION_REASON_NAMED)
        for match in rules:
            if match.rule.engine is not None:
                engine = self.engines.get(match.rule.engine)
                if engine is None:  # no worker runs it
                    continue
                if _may_select(engine) and _try_resolve(engine, resolve) is not None:
                    selection = Selection(
                        reason=SELECTION_REASON_RULE, explanation=match.explanation
                    )
                    return Selected(engine=engine, selection=selection)
        able = [] if self.policy is Policy.DEFAULT else self._find_able(resolve)
        if not able:
            return self._select_default(kind)
        best, reason = select_best(
            self.policy, [(engine, resolved.task) for engine, resolved in able]
        )
        return _explain(best, reason, [engine.name for engine, _ in able])

    def route(
        self, engine: EngineStatus, resolve: Resolve, selection: Selection | None = None
    ) -> Route:
        """Decide the task for the engine.

        Raises:
            UnsupportedTaskError: the engine lacks a feature.
            InvalidRequestError: a value is outside the engine's limits, or an option is wrong.
            Both name the engines that can do the task, or what the one that nearly can comes short of.
        """
        try:
            resolved = _resolve_valid(engine, resolve)
        except (UnsupportedError, InvalidRequestError) as error:
            engines = self.engines.values()
            rejection = refuse(engine, error, engines, lambda able: resolve(able).task)
            raise rejection from error
        return Route(engine=engine, resolved=resolved, selection=selection)

    def find_substitute(
        self, engine: EngineStatus, resolve: Resolve, tried: Sequence[str] = ()
    ) -> Route | None:
        """A route to a fallback for what the engine has not begun; None if it takes it, or no fallback can.

        `tried` are the engines before it in the generation's receipt.
        """
        if not engine.hands_over:
            return None
        return find_substitute(
            self.engines, [*tried, engine.name], lambda other: _try_resolve(other, resolve)
        )

    def explain_fallbacks(
        self, error: ServiceError, engine: EngineStatus, resolve: Resolve
    ) -> None:
        """Add to the error why no fallback takes over from the engine, if it has any and they should."""
        fallbacks = [self.engines[name] for name in engine.fallbacks if name in self.engines]
        if fallbacks and engine.hands_over:
            hint = explain_fallbacks(fallbacks, lambda able: resolve(able).task)
            error.args = (f"{error}; {hint}",)

    def find_fallbacks(self, tried: Sequence[str], resolve: Resolve) -> Iterator[Route]:
        """See `fallbacks.find_fallbacks`."""
        return find_fallbacks(self.engines, tried, lambda other: _try_resolve(other, resolve))

    def _select_default(self, kind: TaskKind | None) -> Selected:
        default = self.engines.get(self.default)
        if default is None:
            msg = f"the default engine, {self.default!r}, is" if self.default else "no engine is"
            raise NotReadyError(f"{msg} run by no worker now")
        if kind is not None and not default.capabilities.makes(kind):
            for engine in self.engines.find_candidates(kind):
                why = f"the default engine, {default.name}, does no {kind} tasks"
                selection = Selection(reason=SELECTION_REASON_DEFAULT, explanation=why)
                return Selected(engine=engine, selection=selection)
        return _explain(default, SELECTION_REASON_DEFAULT)

    def _find_able(self, resolve: Resolve) -> list[tuple[EngineStatus, Resolved]]:
        return [
            (engine, resolved)
            for engine in self.engines.find_candidates()
            if _may_select(engine) and (resolved := _try_resolve(engine, resolve)) is not None
        ]


def _may_select(engine: EngineStatus) -> bool:
    """Whether an engine that is not named may be selected: it is not down or paused, and has budget left."""
    return (
        engine.state != engine_pb2.ENGINE_STATE_UNAVAILABLE
        and not engine.budget.exhausted
        and engine.pause is None
    )


def _explain(
    engine: EngineStatus, reason: SelectionReason.ValueType, others: Sequence[str] = ()
) -> Selected:
    """The engine with the reason; `others` are those that it was selected among."""
    names = ", ".join(others)
    texts = {
        SELECTION_REASON_NAMED: "named in the request",
        SELECTION_REASON_DEFAULT: "the default engine",
        SELECTION_REASON_CHEAPEST: f"the cheapest of those that can: {names}",
        SELECTION_REASON_FASTEST: f"the fastest of those that can: {names}",
    }
    return Selected(engine=engine, selection=Selection(reason=reason, explanation=texts[reason]))


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
