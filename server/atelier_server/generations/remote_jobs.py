"""Whether the job of a cancelled generation still runs at a remote service."""

from __future__ import annotations

from atelier.v1.generation_pb2 import AttemptOutcome, Generation
from atelier_engines.capabilities import CancelSupport
from atelier_server.admission.route import Route

_JOB_KEPT = frozenset(
    {AttemptOutcome.ATTEMPT_OUTCOME_RELEASED, AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED}
)
"""Outcomes of attempts whose remote job goes on."""


def is_job_running(before: Generation, route: Route) -> bool:
    """Whether the remote job of a cancelled generation runs on, and does the work of the route."""
    if route.engine.name != before.engine:
        return False
    capabilities = route.engine.capabilities
    # Cancelled while it waited for another attempt: nobody has stopped the job of the last one.
    waited = [attempt.outcome in _JOB_KEPT for attempt in before.receipt.attempts[-1:]]
    return capabilities.cancel is CancelSupport.NONE or (capabilities.resumable and any(waited))
