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
from atelier_server.store.protocol import Claim, ClaimLostError, Event
from atelier_server.store.sqlite import rows

_QUEUE_POSITION_UPDATES = 10  # so many at the head of a queue are told each time they move up
_DEADLINE_EXCEEDED = 4  # gRPC status codes, as Failure.code carries them
_ABORTED = 10

Claimed = tuple[Claim, list[Event]]


def claim(db: sqlite3.Connection, engine: str, watched: Callable[[str], bool]) -> Claimed | None:
    """Claim the oldest generation that waits for the engine; None when none does.

    Returns:
        The claim, and the events that this caused: its own, and new places in the queue of those `watched`.
    """
    head = rows.waiting(db, engine, _QUEUE_POSITION_UPDATES + 1)
    if not head:
        return None
    row, *behind = head
    generation = row.generation
    generation.state = State.STATE_RUNNING
    if not generation.HasField("start_time"):
        generation.start_time.GetCurrentTime()
    attempt = row.attempt + 1
    rows.update(db, row, generation, attempt=attempt)
    rows.increment_fence(db, row)
    events = [rows.append(db, generation, attempt, Event())]
    for place, other in enumerate(behind):
        if watched(other.id):
            events.append(
                rows.append(db, other.generation, other.attempt, Event(queue_position=place))
            )
    claimed = Claim(
        generation=generation,
        request=rows.request_of(row),
        task=row.task,
        metadata=row.metadata,
        attempt=attempt,
        fence=row.fence + 1,
        caller=row.caller,
        remote_handle=row.remote_handle,
        deadline=row.deadline,
    )
    return claimed, events


def log(db: sqlite3.Connection, claim: Claim, event: Event) -> Event:
    """Append an event of the claimed work.

    Raises:
        ClaimLostError: the claim is void.
    """
    require_claim(db, claim)
    return rows.append(db, claim.generation, claim.attempt, event)


def save_task(db: sqlite3.Connection, claim: Claim, generation: Generation, task: bytes) -> None:
    """Store the decided task and the record that describes it.

    Raises:
        ClaimLostError: the claim is void.
    """
    row = require_claim(db, claim)
    rows.update(db, row, generation, attempt=row.attempt)
    rows.set_task(db, row, task)


def finish(
    db: sqlite3.Connection,
    claim: Claim,
    generation: Generation,
    progress: Event,
    retention_seconds: float,
) -> Event:
    """End the claimed generation, and publish its artifacts.

    Raises:
        ClaimLostError: the claim is void.
    """
    return end(db, require_claim(db, claim), generation, retention_seconds, progress)


def end(
    db: sqlite3.Connection,
    row: rows.Row,
    generation: Generation,
    retention_seconds: float,
    progress: Event | None = None,
) -> Event:
    """Write a generation's last state and its last event."""
    generation.end_time.GetCurrentTime()
    generation.expire_time.FromMicroseconds(
        generation.end_time.ToMicroseconds() + int(retention_seconds * 1e6)
    )
    for output in generation.outputs:
        output.artifact.expire_time.CopyFrom(generation.expire_time)
    rows.add_artifacts(db, row.caller, [output.artifact for output in generation.outputs])
    if generation.receipt.HasField("cost"):
        rows.add_spending(db, generation.engine, generation.receipt.cost.amount)
    rows.update(db, row, generation, attempt=row.attempt)
    event = rows.last_event(db, row) if progress is None else progress
    for stale in ("preview", "queue_position", "estimated_remaining"):
        event.ClearField(stale)
    return rows.append(db, generation, row.attempt, event)


def save_remote_handle(db: sqlite3.Connection, claim: Claim, handle: str) -> None:
    """Remember what finds the work that a remote service has taken.

    Raises:
        ClaimLostError: the claim is void.
    """
    rows.set_remote_handle(db, require_claim(db, claim), handle)


def requeue(
    db: sqlite3.Connection,
    claim: Claim,
    generation: Generation,
    *,
    attempt: int,
    retention_seconds: float,
    keep_remote_handle: bool,
    task: bytes | None = None,
) -> Event:
    """Put the claimed generation back into a queue; or end it, if it was cancelled meanwhile.

    Raises:
        ClaimLostError: the claim is void.
    """
    row = require_claim(db, claim)
    if row.cancel_requested:
        return _end_cancelled(db, row, generation, retention_seconds)
    generation.state = State.STATE_QUEUED
    rows.update(db, row, generation, attempt=attempt)
    if not keep_remote_handle:
        rows.set_remote_handle(db, row, "")
    if task is not None:
        rows.set_task(db, row, task)
    ahead = rows.count_waiting(db, generation.engine, before=row.id)
    return rows.append(db, generation, attempt, Event(queue_position=ahead))


def require_claim(db: sqlite3.Connection, claim: Claim) -> rows.Row:
    """The row of a claim that is still valid.

    Raises:
        ClaimLostError: the claim is void.
    """
    row = rows.find(db, claim.generation.id)
    if row.state != State.STATE_RUNNING or row.fence != claim.fence:
        msg = f"attempt {claim.attempt} at generation {row.id} is void"
        raise ClaimLostError(msg)
    return row


def recover(db: sqlite3.Connection, retention_seconds: float, max_attempts: int) -> dict[str, int]:
    """Take up what a process that died was working on; returns how many wait for each engine."""
    for row in rows.running(db):
        generation = row.generation
        _abandon(generation, row.attempt)
        if row.cancel_requested:
            _end_cancelled(db, row, generation, retention_seconds)
        elif row.attempt >= max_attempts:
            generation.state = State.STATE_FAILED
            generation.failure.CopyFrom(_poisoned(row.attempt))
            end(db, row, generation, retention_seconds)
        else:
            generation.state = State.STATE_QUEUED
            rows.update(db, row, generation, attempt=row.attempt)
            rows.append(db, generation, row.attempt, Event())
    return rows.waiting_by_engine(db)


def _end_cancelled(
    db: sqlite3.Connection, row: rows.Row, generation: Generation, retention_seconds: float
) -> Event:
    generation.state = State.STATE_CANCELLED
    generation.cancel_outcome = CancelOutcome.CANCEL_OUTCOME_STOPPED
    return end(db, row, generation, retention_seconds)


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


def sweep(
    db: sqlite3.Connection, now: float, retention_seconds: float
) -> tuple[list[Event], list[str]]:
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
        events.append(end(db, row, generation, retention_seconds))
    return events, rows.delete_expired(db, now)
