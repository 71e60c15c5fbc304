"""How a generation changes, for every database: (record, command) -> change. No I/O, no SQL, no clock of its own.

A database reads a record, or takes that of a claim; has it changed here; and writes the change if the record is still
the one that was read: `Change` says what to write, and the fence or the state says whether it may be written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import (
    CANCEL_CAUSE_UNSPECIFIED,
    STATE_CANCELLED,
    STATE_FAILED,
    STATE_QUEUED,
    STATE_RUNNING,
    STATE_SUCCEEDED,
    Attempt,
    AttemptOutcome,
    CancelCause,
    CancelOutcome,
    Generation,
)
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.errors import ConflictError, QueueFullError, failure
from atelier_server.store.cancel_outcomes import outcome_of_crash, outcome_of_waiting
from atelier_server.store.protocol import (
    ENDED,
    CancelResult,
    Claim,
    Event,
    Metadata,
    Submission,
    may_run_again,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A generation, and what only the store needs to know about it."""

    generation: Generation
    """What callers see; never modified in place."""
    caller: str
    """The caller that owns it."""
    attempt: int = 0
    """Number of the newest attempt; 0 before the first."""
    fence: int = 0
    """How often it was claimed; claims with a lower number are void."""
    cancel_cause: CancelCause.ValueType = CANCEL_CAUSE_UNSPECIFIED
    """Why the worker is to cancel it; UNSPECIFIED as long as it is not."""
    remote_handle: str = ""
    """Identifies the job that the newest attempt started at a remote service; empty when there is none."""

    @classmethod
    def from_claim(cls, claim: Claim) -> Record:
        """The record as the holder of a claim knows it; valid as long as the claim is."""
        return cls(
            generation=claim.generation,
            caller=claim.caller,
            attempt=claim.attempt,
            fence=claim.fence,
        )


@dataclass(frozen=True, slots=True)
class StoredFields:
    """What is stored beside the record and never changes with its state, except for task and remote handle."""

    request: bytes
    task: bytes
    remote_handle: str
    deadline: float | None
    tenant: str
    subject: str
    trace_context: str

    def to_claim(self, record: Record) -> Claim:
        """The claim on a record in the state RUNNING."""
        return Claim(
            generation=record.generation,
            request=GenerateRequest.FromString(self.request),
            task=self.task,
            attempt=record.attempt,
            fence=record.fence,
            caller=record.caller,
            remote_handle=self.remote_handle,
            deadline=self.deadline,
            metadata=Metadata(
                tenant=self.tenant,
                subject=self.subject,
                trace_context=json.loads(self.trace_context),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command makes of a record: everything to write in one transaction."""

    record: Record
    """The record from now on."""
    event: Event
    """The event to number and append to the log."""
    task: bytes | None = None
    """The decided task to store from now on; None keeps the one that is stored."""
    forget_remote_handle: bool = False
    """Whether the remote job that an attempt started is of no use to the next one."""
    artifacts: Sequence[Artifact] = ()
    """Artifacts that are published by this change."""
    cost: float = 0.0
    """Money to add to what the engine has cost today."""


def require_same_request(request_id: str, stored: bytes, given: bytes) -> None:
    """Compare the digests of two requests with one request id.

    Raises:
        ConflictError: they differ.
    """
    if stored != given:
        msg = f"request_id {request_id!r} was used for another task; give this one its own"
        raise ConflictError(msg)


def accept(submission: Submission, *, queued: int, ahead: int, now: Timestamp) -> Change:
    """Accept a submission behind `ahead` others; `queued` of them count against the limit.

    Raises:
        QueueFullError: as many wait as may.
    """
    _require_queue_space(submission, queued)
    record = Record(generation=submission.generation, caller=submission.caller)
    return _change(record, Event(queue_position=ahead), now)


def run_again(
    record: Record, submission: Submission, *, queued: int, ahead: int, now: Timestamp
) -> Change:
    """Queue a cancelled generation again, as `submission` has decided it, behind `ahead` others; as `accept`.

    Raises:
        QueueFullError: as many wait as may.
    """
    _require_queue_space(submission, queued)
    before, generation = record.generation, _copy(submission.generation)
    generation.id = before.id
    generation.create_time.CopyFrom(before.create_time)
    if before.HasField("start_time"):
        generation.start_time.CopyFrom(before.start_time)
    skipped = list(generation.receipt.attempts)
    del generation.receipt.attempts[:]
    generation.receipt.attempts.extend([*before.receipt.attempts, *skipped])
    queued_again = replace(record, generation=generation, cancel_cause=CANCEL_CAUSE_UNSPECIFIED)
    return replace(
        _change(queued_again, Event(queue_position=ahead), now, in_attempt=False),
        task=submission.task,
        forget_remote_handle=not submission.keep_remote_handle,
    )


def continue_after(last: Event) -> Event:
    """What stands in place of the last event of a log that goes on: only a last event tells of an end."""
    return Event(
        sequence=last.sequence,
        generation_id=last.generation_id,
        state=STATE_QUEUED,
        time=last.time,
        engine=last.engine,
    )


def claim(record: Record, now: Timestamp) -> Change:
    """Start the next attempt of a waiting generation; earlier claims are void from now on."""
    generation = _copy(record.generation)
    generation.state = STATE_RUNNING
    if not generation.HasField("start_time"):
        generation.start_time.CopyFrom(now)
    claimed = replace(
        record, generation=generation, attempt=record.attempt + 1, fence=record.fence + 1
    )
    return _change(claimed, Event(), now)


def fill_event(event: Event, generation: Generation, attempt: int, now: Timestamp) -> Event:
    """Fill in where the generation stands; everything but the sequence number. While it waits it is in no attempt."""
    event.generation_id = generation.id
    event.state = generation.state
    event.engine = generation.engine
    event.attempt = 0 if generation.state == STATE_QUEUED else attempt
    event.time.CopyFrom(now)
    if generation.state in ENDED:
        event.generation.CopyFrom(generation)
        if generation.state == STATE_SUCCEEDED:
            event.progress = 1.0
    return event


def end(
    record: Record,
    generation: Generation,
    progress: Event,
    *,
    now: Timestamp,
    retention_seconds: float,
) -> Change:
    """End the generation in the state that `generation` has; `progress` says how far it came."""
    ended = _copy(generation)
    if ended.state == STATE_CANCELLED:
        ended.cancel_cause = record.cancel_cause
    ended.end_time.CopyFrom(now)
    ended.expire_time.FromMicroseconds(now.ToMicroseconds() + int(retention_seconds * 1e6))
    for output in ended.outputs:
        output.artifact.expire_time.CopyFrom(ended.expire_time)
    event = Event()
    event.CopyFrom(progress)
    for outdated in ("preview", "queue_position", "estimated_remaining"):
        event.ClearField(outdated)
    waited = record.generation.state == STATE_QUEUED
    return replace(
        _change(replace(record, generation=ended), event, now, in_attempt=not waited),
        artifacts=[output.artifact for output in ended.outputs],
        cost=ended.receipt.cost.amount,
    )


def requeue(record: Record, generation: Generation, *, ahead: int, now: Timestamp) -> Change:
    """Put a running generation back into a queue, or a waiting one into another: that of the engine it names.

    `ahead` others are ahead of it there.
    """
    waiting = _copy(generation)
    waiting.state = STATE_QUEUED
    return _change(replace(record, generation=waiting), Event(queue_position=ahead), now)


def list_released(claim: Claim, started: Timestamp | None, now: Timestamp) -> Generation:
    """The claimed generation, with its attempt, which began at `started`, listed as released."""
    generation = _copy(claim.generation)
    generation.receipt.attempts.add(
        number=claim.attempt,
        engine=generation.engine,
        start_time=started,
        end_time=now,
        outcome=AttemptOutcome.ATTEMPT_OUTCOME_RELEASED,
    )
    return generation


def cancel(
    record: Record,
    cause: CancelCause.ValueType,
    *,
    reason: str = "",
    may_cost: bool = True,
    now: Timestamp,
    retention_seconds: float,
) -> tuple[CancelResult, Change | None]:
    """End a waiting generation; of a running one the worker is to be notified, which changes no record.

    The remote job of an attempt that was released goes on, and may cost money if `may_cost`: nobody can stop it now.
    """
    if record.generation.state in ENDED:
        return CancelResult.TOO_LATE, None
    if record.generation.state == STATE_RUNNING:
        return CancelResult.REQUESTED, None
    outcome = outcome_of_waiting(has_job=bool(record.remote_handle), may_cost=may_cost)
    generation = _mark_cancelled(record.generation, outcome)
    generation.cancel_reason = reason
    return CancelResult.NEVER_STARTED, end(
        replace(record, cancel_cause=cause),
        generation,
        Event(),
        now=now,
        retention_seconds=retention_seconds,
    )


def confirm_cancellation(generation: Generation) -> Generation | None:
    """The generation with the cause REQUESTED, if it was cancelled because its callers were lost; else None."""
    if not may_run_again(generation):
        return None
    confirmed = _copy(generation)
    confirmed.cancel_cause = CancelCause.CANCEL_CAUSE_REQUESTED
    return confirmed


def stop(
    record: Record,
    generation: Generation,
    progress: Event,
    *,
    outcome: CancelOutcome.ValueType,
    now: Timestamp,
    retention_seconds: float,
) -> Change:
    """End a generation as CANCELLED whose worker released it, or died, after the cancellation was requested.

    `outcome` is STOPPED only if the work has certainly ended.
    """
    stopped = _mark_cancelled(generation, outcome)
    return end(record, stopped, progress, now=now, retention_seconds=retention_seconds)


def recover(
    record: Record,
    progress: Event,
    *,
    ends_with_process: bool,
    may_cost: bool = True,
    max_attempts: int,
    alone: bool,
    now: Timestamp,
    retention_seconds: float,
) -> Change:
    """Requeue a generation whose worker died; or end it, if it was cancelled or has cost too many attempts.

    `ends_with_process`: the engine works inside the process; a job elsewhere may go on, and cost money if `may_cost`.
    `alone` says that nothing else that was running can have caused the death; else it gets another attempt.
    """
    generation = _copy(record.generation)
    generation.receipt.attempts.append(_crashed_attempt(record))
    if record.cancel_cause:
        stopped = ends_with_process and not record.remote_handle
        return stop(
            record,
            generation,
            progress,
            outcome=outcome_of_crash(stopped=stopped, may_cost=may_cost),
            now=now,
            retention_seconds=retention_seconds,
        )
    crashes = count_crashes(generation)
    if crashes >= max_attempts and alone:
        generation.state = STATE_FAILED
        message = (
            f"the server stopped unexpectedly in each of {crashes} attempts at this generation, and nothing else "
            "was running in the last one; it will not be retried"
        )
        generation.failure.CopyFrom(failure("POISONED", message))
        return end(record, generation, progress, now=now, retention_seconds=retention_seconds)
    generation.state = STATE_QUEUED
    return _change(replace(record, generation=generation), Event(), now)


def time_out(record: Record, *, now: Timestamp, retention_seconds: float) -> Change:
    """Fail a generation that still waits after its deadline."""
    generation = _copy(record.generation)
    generation.state = STATE_FAILED
    generation.failure.CopyFrom(
        failure("DEADLINE_EXCEEDED", "timed out in the queue", retryable=True)
    )
    return end(record, generation, Event(), now=now, retention_seconds=retention_seconds)


def _require_queue_space(submission: Submission, queued: int) -> None:
    if queued >= submission.queue_limit:
        engine = submission.generation.engine
        msg = f"the queue of engine {engine!r} is full: {queued} generations wait"
        raise QueueFullError(msg)


def _mark_cancelled(generation: Generation, outcome: CancelOutcome.ValueType) -> Generation:
    cancelled = _copy(generation)
    cancelled.state = STATE_CANCELLED
    cancelled.cancel_outcome = outcome
    return cancelled


def _crashed_attempt(record: Record) -> Attempt:
    outcome = AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
    attempt = Attempt(number=record.attempt, engine=record.generation.engine, outcome=outcome)
    if record.attempt == 1 and record.generation.start_time.seconds:
        attempt.start_time.CopyFrom(record.generation.start_time)
    return attempt


def count_crashes(generation: Generation) -> int:
    """How many attempts a crash of the server has ended; released and failed ones say nothing about it."""
    attempts = generation.receipt.attempts
    return sum(attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED for attempt in attempts)


def _change(record: Record, event: Event, now: Timestamp, *, in_attempt: bool = True) -> Change:
    fill_event(event, record.generation, record.attempt if in_attempt else 0, now)
    return Change(record=record, event=event)


def _copy(generation: Generation) -> Generation:
    copy = Generation()
    copy.CopyFrom(generation)
    return copy
