"""Which engine takes over what another one fails at, or cannot take.

The chain is that of the engine tried first, and no engine is tried twice: engines that name each other come to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from atelier.v1.generation_pb2 import Attempt, AttemptOutcome, Selection, SelectionReason
from atelier_server.admission.route import Resolved, Route
from atelier_server.engines.status import EngineStatus, EngineStatuses
from atelier_server.errors import failure_from_error

TryResolve = Callable[[EngineStatus], Resolved | None]
"""The task for an engine; None if the engine cannot do it."""


def find_fallbacks(
    engines: EngineStatuses, tried: Sequence[str], try_resolve: TryResolve
) -> Iterator[Route]:
    """Routes to the fallbacks of the engine tried first that are available, untried and can do the task."""
    first = engines.get(tried[0])
    for fallback in engines.find_fallbacks(first) if first is not None else ():
        if fallback.name not in tried and (resolved := try_resolve(fallback)) is not None:
            yield Route(engine=fallback, resolved=resolved, selection=_explain(tried))


def find_substitute(
    engines: EngineStatuses, tried: Sequence[str], try_resolve: TryResolve
) -> Route | None:
    """A route to a fallback for what the engine tried last has not begun and cannot take; None if there is none."""
    engine = engines[tried[-1]]
    rejection = engine.find_rejection()
    route = next(find_fallbacks(engines, tried, try_resolve), None)
    if rejection is None or route is None:
        return None
    skipped = Attempt(
        engine=engine.name,
        outcome=AttemptOutcome.ATTEMPT_OUTCOME_SKIPPED,
        failure=failure_from_error(rejection),
    )
    return replace(route, selection=_explain(tried, f": {rejection}"), skipped=skipped)


def _explain(tried: Sequence[str], reason: str = "") -> Selection:
    return Selection(
        reason=SelectionReason.SELECTION_REASON_FALLBACK,
        explanation=f"fallback after {', '.join(dict.fromkeys(tried))}{reason}",
    )
