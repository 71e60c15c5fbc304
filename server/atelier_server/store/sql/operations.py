"""The operations of an SQL store, each one transaction: read a record, or take that of a claim; change; write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import CancelCause, CancelOutcome, Generation, State
from atelier_server.clock import current_timestamp
from atelier_server.store import records
from atelier_server.store.isolation import Turn
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import (
    CancelResult,
    Claim,
    ClaimLostError,
    Event,
    Submission,
    SubmitResult,
    may_run_again,
)
from atelier_server.store.quotas import RunningLimits, require_allowed
from atelier_server.store.records import Record
from atelier_server.store.sql import (
    cancellation_rows,
    event_rows,
    pauses,
    rows,
    running_limits,
    shares,
    usage,
    waiting,
)
from atelier_server.store.sql.database import Connection
from atelier_server.store.sql.shares import Joining

WrittenT = TypeVar("WrittenT")
Watched: TypeAlias = Callable[[str], bool]
"""Says whether somebody watches the generation of that id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """How the holder of a claim gives a generation back to a queue."""

    generation: Generation
    """The record from now on; it names the engine."""
    task: bytes | None = None
    """The task decided anew for another engine; None keeps the stored one."""
    keep_remote_handle: bool = False
    """Whether the next attempt continues with the remote job of this one."""
    spent: float = 0.0
    """What this attempt has cost on its engine."""
    cancel_outcome: CancelOutcome.ValueType = CancelOutcome.CANCEL_OUTCOME_STOPPED
    """How it ends if its cancellation was requested meanwhile."""


Claimed: TypeAlias = tuple[Claim, list[Event]]
"""A claim, its event, and events with the new queue positions of those that are watched."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission."""

    result: SubmitResult
    """The answer to whoever submitted it."""
    event: Event | None
    """Its first event, or that of its place in the queue if it runs again; None if it was found."""
    claimed: Claimed | None = None
    """The claim for the worker that waits, not necessarily on this generation; None if there is none."""


def submit(
    db: Connection,
    submission: Submission,
    *,
    is_watched: Watched | None = None,
    limits: RunningLimits | None = None,
) -> Submitted:
    """Accept a generation, or find the one that the same request made before. One that `may_run_again` is queued again.

    With `is_watched` a worker waits: it gets the next generation in the queue, which may be this one, or none.

    Raises:
        ConflictError: the request id was used before with another digest.
        QueueFullError: the engine's queue is full.
        TenantQuotaError: the caller has as much as it may.
    """
    before = _find_before(db, submission) if submission.named else None
    if before is not None and not may_run_again(before.generation):
        return Submitted(before, None)
    if (allowance := submission.allowance) is not None:
        have = usage.find_usage(db, submission.caller, allowance)
        require_allowed(submission.caller, allowance, have, submission.share.cost)
    generation, now = submission.generation, current_timestamp()
    queued = waiting.count(db, generation.engine)
    if before is not None:
        change = _run_again(db, before.generation.id, submission, now)
        event = rows.write(db, change)
    else:
        ahead = _count_ahead(db, submission, generation.id) if queued else 0
        limiting = queued if queued and _is_limited(db, submission) else 0
        change = records.accept(submission, queued=limiting, ahead=ahead, now=now)
        event = change.event
        if is_watched is not None and not (
            queued
            or pauses.is_paused(db, generation.engine)
            or submission.caller in running_limits.list_full(db, limits)
        ):
            return _insert_claimed(db, submission, change, now)
        rows.insert(db, submission, change.record, [event])
    claimed = (
        None if is_watched is None else claim(db, generation.engine, is_watched, limits=limits)
    )
    return Submitted(_to_result(change, submission), event, claimed)


def _find_before(db: Connection, submission: Submission) -> SubmitResult | None:
    request_id = submission.generation.request_id
    return rows.find_by_request_id(db, submission.caller, request_id, submission.digest)


def _insert_claimed(
    db: Connection, submission: Submission, accepted: records.Change, now: Timestamp
) -> Submitted:
    """Accept and claim at once: the first row that is written is that of a generation that runs."""
    claimed = records.claim(accepted.record, now)
    rows.insert(db, submission, claimed.record, [accepted.event, claimed.event])
    claim = Claim(
        generation=claimed.record.generation,
        request=submission.request,
        task=submission.task,
        attempt=claimed.record.attempt,
        fence=claimed.record.fence,
        caller=submission.caller,
        remote_handle="",
        deadline=submission.deadline,
        metadata=submission.metadata,
    )
    return Submitted(_to_result(accepted, submission), accepted.event, (claim, [claimed.event]))


def _run_again(
    db: Connection,
    generation_id: str,
    submission: Submission,
    now: Timestamp,
) -> records.Change:
    change = records.run_again(
        rows.find(db, generation_id).record,
        submission,
        queued=waiting.count(db, submission.generation.engine)
        if _is_limited(db, submission)
        else 0,
        ahead=_count_ahead(db, submission, generation_id),
        now=now,
    )
    cancellation_rows.rewrite_event(
        db, records.continue_after(event_rows.last_event(db, generation_id))
    )
    cancellation_rows.replace_submission(db, generation_id, submission)
    return change


def _is_limited(db: Connection, submission: Submission) -> bool:
    """Whether a full queue keeps the submission out: its tenant has something there."""
    batch = is_batch(submission.generation)
    return waiting.has_waiting(db, submission.generation.engine, submission.caller, batch=batch)


def _count_ahead(db: Connection, submission: Submission, generation_id: str) -> int:
    joining = Joining(
        generation_id=generation_id,
        tenant=submission.caller,
        batch=is_batch(submission.generation),
        share=submission.share,
    )
    return shares.count_ahead(db, submission.generation.engine, joining)


def _to_result(change: records.Change, submission: Submission) -> SubmitResult:
    return SubmitResult(
        generation=change.record.generation,
        created=True,
        ends_with_callers=rows.ends_with_callers(submission.request),
    )


def claim(
    db: Connection,
    engine: str,
    is_watched: Watched,
    turn: Turn | None = None,
    *,
    begun: bool = False,
    limits: RunningLimits | None = None,
    tells_positions: bool = True,
) -> Claimed | None:
    """Claim the next generation in the engine's queue; None when there is none, or that one may not start.

    With `begun`, and while the engine is paused, only those count that have a remote job. Else tenants at their limits
    are passed over. Without `tells_positions` nobody is told of a new position: nobody watches anything.
    """
    full = running_limits.list_full(db, limits)
    first = waiting.find_next(
        db,
        engine,
        begun=begun or pauses.is_paused(db, engine),
        preferred="" if turn is None else turn.reserved,
        passed_over=full,
    )
    if first is None:
        return None
    record, stored = first
    if turn is not None and not turn.may_start(record.generation.id):
        return None
    running_limits.pass_over(db, engine, full, record.caller)
    now = current_timestamp()
    change = records.claim(record, now)
    events = [rows.write(db, change)]
    following = shares.list_next(db, engine, waiting.EXACT_POSITIONS) if tells_positions else []
    for position, generation_id in enumerate(following):
        if is_watched(generation_id):
            moved = Generation(id=generation_id, engine=engine, state=State.STATE_QUEUED)
            attempt = rows.find_attempt(db, generation_id)
            event = Event(queue_position=position)
            events.append(rows.append(db, records.fill_event(event, moved, attempt, now)))
    return stored.to_claim(change.record), events


def log(db: Connection, claim: Claim, events: Sequence[Event]) -> Sequence[Event]:
    """Append events of the claimed work.

    Raises:
        ClaimLostError: the claim is void.
    """
    now = current_timestamp()
    for event in events:
        records.fill_event(event, claim.generation, claim.attempt, now)
    return _require_claim(claim, rows.append_claimed(db, claim, events))


def save_task(db: Connection, claim: Claim, generation: Generation, task: bytes) -> None:
    """Store the decided task, and the record whose receipt describes it.

    Raises:
        ClaimLostError: the claim is void.
    """
    _require_claim(claim, rows.set_task(db, claim, generation, task) or None)


def save_remote_handle(db: Connection, claim: Claim, handle: str) -> None:
    """Store what identifies the job that a remote service has accepted.

    Raises:
        ClaimLostError: the claim is void.
    """
    _require_claim(claim, rows.set_remote_handle(db, claim, handle) or None)


def finish(
    db: Connection,
    claim: Claim,
    generation: Generation,
    events: Sequence[Event],
    retention_seconds: float,
) -> tuple[Generation, Sequence[Event]]:
    """End the claimed generation, and publish its artifacts; returns the record and the events, numbered.

    The last event says how far the work came; those before it have not been logged yet.

    Raises:
        ClaimLostError: the claim is void.
    """
    cancelled = generation.state == State.STATE_CANCELLED
    *unlogged, progress = events
    now = current_timestamp()
    for event in unlogged:
        records.fill_event(event, claim.generation, claim.attempt, now)
    change = records.end(
        _read_record(db, claim) if cancelled else Record.from_claim(claim),
        generation,
        progress,
        now=now,
        retention_seconds=retention_seconds,
    )
    _require_claim(claim, rows.write_claimed(db, claim, change, unlogged=unlogged))
    return change.record.generation, [*unlogged, change.event]


def requeue(db: Connection, claim: Claim, release: Release, retention_seconds: float) -> Event:
    """Put the claimed generation back into a queue; or end it, if its cancellation was requested meanwhile.

    Raises:
        ClaimLostError: the claim is void.
    """
    record, generation, now = Record.from_claim(claim), release.generation, current_timestamp()
    joining = Joining(
        generation_id=generation.id,
        tenant=claim.caller,
        batch=is_batch(generation),
        given_back=generation.engine == claim.generation.engine,
    )
    ahead = shares.count_ahead(db, generation.engine, joining)
    change = replace(
        records.requeue(record, generation, ahead=ahead, now=now),
        task=release.task,
        forget_remote_handle=not release.keep_remote_handle,
    )
    event = rows.write_claimed(db, claim, change, cancel_requested=False)
    if event is None:
        progress = event_rows.last_event(db, generation.id)
        stopped = records.stop(
            _read_record(db, claim),
            generation,
            progress,
            outcome=release.cancel_outcome,
            now=now,
            retention_seconds=retention_seconds,
        )
        event = rows.write_claimed(db, claim, stopped, cancel_requested=True)
    written = _require_claim(claim, event)
    rows.add_spending(db, claim.caller, claim.generation.engine, release.spent)
    return written


def cancel(
    db: Connection,
    caller: str,
    generation_id: str,
    cause: CancelCause.ValueType,
    retention_seconds: float,
    *,
    free_engines: Collection[str] = (),
) -> tuple[CancelResult, Event | None]:
    """End a waiting generation and return its last event, or note that a running one is to be cancelled.

    Jobs of `free_engines` cost nothing.

    Raises:
        NotFoundError: no such generation, or it is another caller's.
    """
    record = rows.find(db, generation_id, caller).record
    result, change = records.cancel(
        record,
        cause,
        may_cost=record.generation.engine not in free_engines,
        now=current_timestamp(),
        retention_seconds=retention_seconds,
    )
    if result is CancelResult.REQUESTED:
        cancellation_rows.request_cancel(db, generation_id, cause)
    elif cause == CancelCause.CANCEL_CAUSE_REQUESTED and result is CancelResult.TOO_LATE:
        confirmed = records.confirm_cancellation(record.generation)
        if confirmed is not None:
            cancellation_rows.rewrite_record(db, confirmed)
    if change is None:
        return result, None
    usage.charge_ended(db, record)
    return result, rows.write(db, change)


def _read_record(db: Connection, claim: Claim) -> Record:
    """The record of the claim, with the cause for which it is to be cancelled, which may have changed meanwhile."""
    cause = cancellation_rows.find_cancel_cause(db, claim.generation.id)
    return replace(Record.from_claim(claim), cancel_cause=cause)


def _require_claim(claim: Claim, written: WrittenT | None) -> WrittenT:
    """What a write under the claim gave; None means that the claim is void."""
    if written is None:
        msg = f"the claim of attempt {claim.attempt} at generation {claim.generation.id} is void"
        raise ClaimLostError(msg)
    return written
