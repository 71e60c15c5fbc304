"""How a generation goes from one state to the next; every function runs inside one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import (
    Attempt,
    AttemptOutcome,
    CancelOutcome,
    Failure,
    Generation,
    State,
)
from atelier_server.store import rows
from atelier_server.store.contract import Claim, ClaimLostError, Event

_TOLD_PLACES = 10  # so many at the head of a queue are told each time they move up
_DEADLINE_EXCEEDED = 4  # gRPC status codes, as Failure.code carries them
_ABORTED = 10

Taken = tuple[Claim, list[Event]]


def take(db: sqlite3.Connection, pool: str, watched: Callable[[str], bool]) -> Taken | None:
    """Claim the oldest generation that waits for the pool; None when none does.

    Returns:
        The claim, and the events that this caused: its own, and new places in the queue of those `watched`.
    """
    head = rows.waiting(db, pool, _TOLD_PLACES + 1)
    if not head:
        return None
    row, *behind = head
    generation = row.generation
    generation.state = State.STATE_RUNNING
    if not generation.HasField("start_time"):
        generation.start_time.GetCurrentTime()
    attempt = row.attempt + 1
    rows.update(db, row, generation, attempt=attempt)
    rows.raise_fence(db, row)
    events = [rows.append(db, generation, attempt, Event())]
    for place, other in enumerate(behind):
        if watched(other.id):
            events.append(
                rows.append(db, other.generation, other.attempt, Event(queue_position=place))
            )
    claim = Claim(
        generation=generation,
        request=rows.request_of(row),
        attempt=attempt,
        fence=row.fence + 1,
        caller=row.caller,
        handle=row.handle,
        deadline=row.deadline,
    )
    return claim, events


def log(db: sqlite3.Connection, claim: Claim, event: Event) -> Event:
    """Append an event of the claimed work.

    Raises:
        ClaimLostError: the claim is void.
    """
    _held(db, claim)
    return rows.append(db, claim.generation, claim.attempt, event)


def finish(
    db: sqlite3.Connection, claim: Claim, generation: Generation, time_to_live: float
) -> Event:
    """End the claimed generation, and publish its artifacts.

    Raises:
        ClaimLostError: the claim is void.
    """
    return end(db, _held(db, claim), generation, time_to_live)


def end(
    db: sqlite3.Connection, row: rows.Row, generation: Generation, time_to_live: float
) -> Event:
    """Write a generation's last state and its last event."""
    generation.end_time.GetCurrentTime()
    generation.expire_time.FromMicroseconds(
        generation.end_time.ToMicroseconds() + int(time_to_live * 1e6)
    )
    for output in generation.outputs:
        output.artifact.expire_time.CopyFrom(generation.expire_time)
    rows.add_artifacts(db, row.caller, [output.artifact for output in generation.outputs])
    if generation.receipt.HasField("cost"):
        rows.add_spending(db, generation.engine, generation.receipt.cost.amount)
    rows.update(db, row, generation, attempt=row.attempt)
    event = rows.last_event(db, row)
    for stale in ("preview", "queue_position", "expected_remaining"):
        event.ClearField(stale)
    return rows.append(db, generation, row.attempt, event)


def dispatched(db: sqlite3.Connection, claim: Claim, handle: str) -> None:
    """Remember what finds the work that a remote service has taken.

    Raises:
        ClaimLostError: the claim is void.
    """
    rows.set_handle(db, _held(db, claim), handle)


def queue_again(
    db: sqlite3.Connection,
    claim: Claim,
    generation: Generation,
    *,
    attempt: int,
    time_to_live: float,
    keep_handle: bool,
) -> Event:
    """Put the claimed generation back into a queue; or end it, if it was cancelled meanwhile.

    Raises:
        ClaimLostError: the claim is void.
    """
    row = _held(db, claim)
    if row.cancelling:
        return _end_cancelled(db, row, generation, time_to_live)
    generation.state = State.STATE_QUEUED
    rows.update(db, row, generation, attempt=attempt)
    if not keep_handle:
        rows.set_handle(db, row, "")
    ahead = sum(other.id < row.id for other in rows.waiting(db, generation.engine))
    return rows.append(db, generation, attempt, Event(queue_position=ahead))


def _held(db: sqlite3.Connection, claim: Claim) -> rows.Row:
    row = rows.find(db, claim.generation.id)
    if row.state != State.STATE_RUNNING or row.fence != claim.fence:
        msg = f"attempt {claim.attempt} at generation {row.id} is void"
        raise ClaimLostError(msg)
    return row


def recover(db: sqlite3.Connection, time_to_live: float, max_attempts: int) -> dict[str, int]:
    """Take up what a process that died was working on; returns how many wait for each pool."""
    for row in rows.running(db):
        generation = row.generation
        _abandon(generation, row.attempt)
        if row.cancelling:
            _end_cancelled(db, row, generation, time_to_live)
        elif row.attempt >= max_attempts:
            generation.state = State.STATE_FAILED
            generation.failure.CopyFrom(_poisoned(row.attempt))
            end(db, row, generation, time_to_live)
        else:
            generation.state = State.STATE_QUEUED
            rows.update(db, row, generation, attempt=row.attempt)
            rows.append(db, generation, row.attempt, Event())
    return rows.waiting_by_pool(db)


def _end_cancelled(
    db: sqlite3.Connection, row: rows.Row, generation: Generation, time_to_live: float
) -> Event:
    generation.state = State.STATE_CANCELLED
    generation.cancel_outcome = CancelOutcome.CANCEL_OUTCOME_STOPPED
    return end(db, row, generation, time_to_live)


def _abandon(generation: Generation, number: int) -> None:
    start = generation.start_time if number == 1 else Timestamp()
    generation.receipt.attempts.append(
        Attempt(
            number=number,
            engine=generation.engine,
            start_time=start if start.seconds else None,
            outcome=AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED,
        )
    )


def _poisoned(attempts: int) -> Failure:
    return Failure(
        reason="POISONED",
        code=_ABORTED,
        message=f"the server died {attempts} times while working on this; it will not be tried again",
    )


def sweep(db: sqlite3.Connection, now: float, time_to_live: float) -> tuple[list[Event], list[str]]:
    """End what waited past its deadline, and forget what outlived its time.

    Returns:
        The events that this caused, and the ids of forgotten artifacts.
    """
    events = []
    for row in rows.overdue(db, now):
        generation = row.generation
        generation.state = State.STATE_FAILED
        generation.failure.CopyFrom(
            Failure(
                reason="DEADLINE_EXCEEDED",
                code=_DEADLINE_EXCEEDED,
                message="its time ran out while it waited for the engine",
                retryable=True,
            )
        )
        events.append(end(db, row, generation, time_to_live))
    return events, rows.forget(db, now)
