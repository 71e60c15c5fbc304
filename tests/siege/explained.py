"""Which ends of a generation are explained by what was done to it: a closed table. Everything else is a fault."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from atelier.v1.generation_pb2 import AttemptOutcome, CancelCause, CancelOutcome, Generation, State
from tests.siege.disturbances import KILLS
from tests.siege.plan import PAID, Kind
from tests.siege.recorder import Asked, Disturbance
from tests.siege.server import MAX_ATTEMPTS

_LASTS_SECONDS = 1.0
"""For which a disturbance may act on what is accepted after it began."""


class Cause(Enum):
    """What was done to a generation, or to the server during its life."""

    DOABLE = "its task can be done in the time that it has"
    TOLD_TO_FAIL = "its task is told to fail"
    TIME_LIMIT = "its task takes longer than its timeout"
    ABANDONED = "its callers hung up for good, and it was not accepted to run on its own"
    CANCELLED = "it was cancelled on purpose"
    ABANDONED_REMOTELY = "as before, while a remote service may have worked for it"
    CANCELLED_REMOTELY = "it was cancelled on purpose while a remote service may have worked for it"
    KILLED_OFTEN = "the server was killed in as many of its attempts as a generation may lose"
    ORDER_CUT = "the server was killed or drained while an order may have been on its way"


End = tuple[str, str]
"""State; and the reason of the failure, or the outcome and the cause of the cancellation."""

EXPLAINED: Mapping[End, frozenset[Cause]] = {
    ("SUCCEEDED", ""): frozenset({Cause.DOABLE}),
    ("FAILED", "ENGINE_FAILED"): frozenset({Cause.TOLD_TO_FAIL}),
    ("FAILED", "DEADLINE_EXCEEDED"): frozenset({Cause.TIME_LIMIT}),
    ("FAILED", "POISONED"): frozenset({Cause.KILLED_OFTEN}),
    ("FAILED", "ENGINE_UNCERTAIN"): frozenset({Cause.ORDER_CUT}),
    ("CANCELLED", "NEVER_STARTED REQUESTED"): frozenset({Cause.CANCELLED}),
    ("CANCELLED", "STOPPED REQUESTED"): frozenset({Cause.CANCELLED}),
    ("CANCELLED", "VENDOR_MAY_BILL REQUESTED"): frozenset({Cause.CANCELLED_REMOTELY}),
    ("CANCELLED", "MAY_GO_ON REQUESTED"): frozenset({Cause.CANCELLED_REMOTELY}),
    ("CANCELLED", "NEVER_STARTED CALLERS_LOST"): frozenset({Cause.ABANDONED}),
    ("CANCELLED", "STOPPED CALLERS_LOST"): frozenset({Cause.ABANDONED}),
    ("CANCELLED", "VENDOR_MAY_BILL CALLERS_LOST"): frozenset({Cause.ABANDONED_REMOTELY}),
    ("CANCELLED", "MAY_GO_ON CALLERS_LOST"): frozenset({Cause.ABANDONED_REMOTELY}),
}
"""Every end that a generation may have, with the causes of which one must hold."""

REFUSED: Mapping[str, frozenset[Cause]] = {"DEADLINE_UNATTAINABLE": frozenset({Cause.TIME_LIMIT})}
"""Reasons for which a request may be refused for good, with the causes of which one must hold."""

REPEATED = frozenset(
    {
        "UNAVAILABLE",
        "CANCELLED",  # without a reason: from gRPC's library, as docs/errors.md says
        "UNAVAILABLE DRAINING",
        "UNAVAILABLE STORAGE_UNAVAILABLE",
        "UNAVAILABLE QUEUE_FULL",
        "UNAVAILABLE ENGINE_UNAVAILABLE",
        "ServerUnreachableError",
        "UnavailableError DRAINING",
        "UnavailableError STORAGE_UNAVAILABLE",
        "UnavailableError QUEUE_FULL",
        "UnavailableError ENGINE_UNAVAILABLE",
    }
)
"""Errors that callers and watchers may get and repeat their calls after: status or error, and reason."""

LOGGED = frozenset({"storage_failed", "sweep_failed", "remote_job_not_cancelled"})
"""Events that the server may log as errors: the disk is full, or an order was on its way when it was killed."""


def end_of(generation: Generation) -> End:
    """How the generation ended."""
    state = State.Name(generation.state).removeprefix("STATE_")
    if state != "CANCELLED":
        return state, generation.failure.reason
    outcome = CancelOutcome.Name(generation.cancel_outcome).removeprefix("CANCEL_OUTCOME_")
    cause = CancelCause.Name(generation.cancel_cause).removeprefix("CANCEL_CAUSE_")
    return state, f"{outcome} {cause}"


def causes_of(
    asked: Asked, generation: Generation | None, disturbances: list[Disturbance]
) -> frozenset[Cause]:
    """All causes that hold for a generation, or for a request that was never accepted."""
    planned = asked.planned
    abandoned = planned.kind is Kind.ABANDON and asked.hang_ups > 0
    cancelled = bool(asked.cancels) or asked.lost_cancels > 0
    during = [] if generation is None else _during(generation, disturbances)
    holds = {
        Cause.DOABLE: planned.kind not in {Kind.FAIL, Kind.TIME_OUT},
        Cause.TOLD_TO_FAIL: planned.kind is Kind.FAIL,
        Cause.TIME_LIMIT: planned.kind is Kind.TIME_OUT,
        Cause.ABANDONED: abandoned,
        Cause.ABANDONED_REMOTELY: abandoned and planned.engine == PAID,
        Cause.CANCELLED: cancelled,
        Cause.CANCELLED_REMOTELY: cancelled and planned.engine == PAID,
        Cause.KILLED_OFTEN: generation is not None
        and MAX_ATTEMPTS <= count_abandoned(generation) <= count_kills(generation, disturbances),
        Cause.ORDER_CUT: bool(during) and planned.engine == PAID,
    }
    return frozenset(cause for cause, held in holds.items() if held)


def count_abandoned(generation: Generation) -> int:
    """How many attempts ended with the death of the server, as the receipt says."""
    abandoned = AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
    return sum(attempt.outcome == abandoned for attempt in generation.receipt.attempts)


def count_kills(generation: Generation, disturbances: list[Disturbance]) -> int:
    """How often the server was killed between acceptance and end."""
    return sum(one.kind in KILLS for one in _during(generation, disturbances))


def _during(generation: Generation, disturbances: list[Disturbance]) -> list[Disturbance]:
    """What was done to the server between acceptance and end."""
    accepted = generation.create_time.ToMicroseconds() / 1e6
    ended = generation.end_time.ToMicroseconds() / 1e6
    return [one for one in disturbances if accepted - _LASTS_SECONDS <= one.at <= ended]
