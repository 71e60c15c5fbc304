"""What each command makes of a record, without any database."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import (
    AttemptOutcome,
    CancelCause,
    CancelOutcome,
    Generation,
    Output,
    Preview,
    State,
)
from atelier_server.errors import ConflictError, QueueFullError
from atelier_server.store import records
from atelier_server.store.protocol import CancelResult, Event
from atelier_server.store.records import Record
from tests.store.conformance import submission

NOW = Timestamp(seconds=1_000_000)
DAY = 86_400.0
ABANDONED = AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
RELEASED = AttemptOutcome.ATTEMPT_OUTCOME_RELEASED


def record(state: State.ValueType, **fields: object) -> Record:
    """The record of a generation in that state, in its first attempt unless `fields` say otherwise."""
    generation = Generation(id="g", engine="sketch", state=state)
    if state == State.STATE_RUNNING:
        generation.start_time.FromSeconds(900_000)
        fields = {"attempt": 1, "fence": 1, **fields}
    return Record(generation=generation, caller="ada", **fields)  # type: ignore[arg-type]  # fields by name


def recover(
    crashed: Record, *, ends_with_process: bool = True, max_attempts: int = 3, alone: bool = True
) -> records.Change:
    """What recovery makes of the record."""
    return records.recover(
        crashed,
        Event(),
        ends_with_process=ends_with_process,
        max_attempts=max_attempts,
        alone=alone,
        now=NOW,
        retention_seconds=DAY,
    )


def test_accepting_counts_those_ahead_and_writes_the_first_event() -> None:
    """Nothing has been attempted then, and the event says where the generation stands."""
    change = records.accept(submission(queue_limit=3), queued=2, ahead=2, now=NOW)
    assert (change.record.attempt, change.record.fence) == (0, 0)
    assert (change.event.state, change.event.queue_position) == (State.STATE_QUEUED, 2)
    assert (change.event.engine, change.event.time) == ("sketch", NOW)


def test_a_full_queue_accepts_nothing() -> None:
    """The message names the engine and how many wait."""
    with pytest.raises(QueueFullError, match="'sketch' is full: 3 generations"):
        records.accept(submission(queue_limit=3), queued=3, ahead=3, now=NOW)


def test_a_request_id_belongs_to_one_request() -> None:
    """Equal digests are the same request, others conflict."""
    records.require_same_request("r", b"1", b"1")
    with pytest.raises(ConflictError, match="'r'"):
        records.require_same_request("r", b"1", b"2")


def test_a_claim_counts_the_attempt_and_makes_earlier_claims_void() -> None:
    """The first attempt sets the start time, later ones keep it; the record that was read stays as it was."""
    waiting = record(State.STATE_QUEUED)
    first = records.claim(waiting, NOW).record
    assert (first.attempt, first.fence, first.generation.start_time) == (1, 1, NOW)
    assert (waiting.attempt, waiting.generation.state) == (0, State.STATE_QUEUED)
    again = records.claim(first, Timestamp(seconds=2_000_000))
    assert (again.record.attempt, again.record.fence) == (2, 2)
    assert again.record.generation.start_time == NOW
    assert again.event.attempt == 2


def test_an_end_publishes_outputs_and_says_when_all_of_it_expires() -> None:
    """The last event has the record and how far the work came, without what only mattered on the way."""
    done = Generation(id="g", engine="sketch", state=State.STATE_SUCCEEDED)
    done.outputs.append(Output(artifact=Artifact(id="a")))
    done.receipt.cost.amount = 0.25
    progress = Event(stage="draw", step=4, queue_position=3, preview=Preview(data=b"x"))
    change = records.end(
        record(State.STATE_RUNNING), done, progress, now=NOW, retention_seconds=DAY
    )
    ended = change.record.generation
    assert (ended.end_time, ended.expire_time.seconds) == (NOW, NOW.seconds + DAY)
    assert [artifact.id for artifact in change.artifacts] == ["a"]
    assert change.artifacts[0].expire_time == ended.expire_time
    assert change.cost == 0.25
    assert change.event.generation == ended
    assert (change.event.stage, change.event.step, change.event.progress) == ("draw", 4, 1.0)
    assert not change.event.HasField("preview")
    assert not change.event.HasField("queue_position")
    assert not done.HasField("end_time")
    assert progress.HasField("preview")


def test_a_requeued_generation_waits_for_the_engine_that_it_names() -> None:
    """While it waits it is in no attempt, and the next one has the next number."""
    moved = Generation(id="g", engine="other", state=State.STATE_RUNNING)
    change = records.requeue(record(State.STATE_RUNNING), moved, ahead=5, now=NOW)
    assert (change.record.generation.state, change.record.attempt) == (State.STATE_QUEUED, 1)
    assert (change.event.engine, change.event.queue_position) == ("other", 5)
    assert change.event.attempt == 0
    assert moved.state == State.STATE_RUNNING


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.STATE_QUEUED, CancelResult.NEVER_STARTED),
        (State.STATE_RUNNING, CancelResult.REQUESTED),
        (State.STATE_SUCCEEDED, CancelResult.TOO_LATE),
        (State.STATE_FAILED, CancelResult.TOO_LATE),
        (State.STATE_CANCELLED, CancelResult.TOO_LATE),
    ],
)
def test_a_cancellation_ends_only_what_waits(
    state: State.ValueType, expected: CancelResult
) -> None:
    """A running generation is for its worker to end, and one that has ended does not change."""
    cause = CancelCause.CANCEL_CAUSE_REQUESTED
    result, change = records.cancel(record(state), cause, now=NOW, retention_seconds=DAY)
    assert result is expected
    assert (change is not None) == (expected is CancelResult.NEVER_STARTED)
    if change is not None:
        cancelled = change.record.generation
        assert cancelled.state == State.STATE_CANCELLED
        assert cancelled.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
        assert cancelled.cancel_cause == cause


def test_a_cancellation_while_a_remote_job_goes_on_says_that_it_may_be_billed() -> None:
    """The attempt that ordered it was released when a server stopped."""
    released = record(State.STATE_QUEUED, attempt=1, remote_handle="job")
    cause = CancelCause.CANCEL_CAUSE_REQUESTED
    _, change = records.cancel(released, cause, now=NOW, retention_seconds=DAY)
    assert change is not None
    outcome = change.record.generation.cancel_outcome
    assert outcome == CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
    _, free = records.cancel(released, cause, may_cost=False, now=NOW, retention_seconds=DAY)
    assert free is not None
    outcome = free.record.generation.cancel_outcome
    assert outcome == CancelOutcome.CANCEL_OUTCOME_MAY_GO_ON


def test_recovery_requeues_and_lists_the_abandoned_attempt() -> None:
    """The attempt counts, and keeps its number in the receipt."""
    change = recover(record(State.STATE_RUNNING))
    requeued = change.record.generation
    assert (requeued.state, change.record.attempt) == (State.STATE_QUEUED, 1)
    (attempt,) = requeued.receipt.attempts
    assert (attempt.number, attempt.engine) == (1, "sketch")
    assert attempt.outcome == ABANDONED
    assert attempt.start_time.seconds == 900_000
    assert change.event.state == State.STATE_QUEUED


def test_recovery_gives_up_after_the_last_crash() -> None:
    """A generation in whose attempts the server stopped too often has FAILED, and is not to be retried."""
    crashed = record(State.STATE_RUNNING, attempt=5)
    for outcome in (RELEASED, AttemptOutcome.ATTEMPT_OUTCOME_FAILED, ABANDONED):
        crashed.generation.receipt.attempts.add(outcome=outcome)
    assert recover(crashed, max_attempts=3).record.generation.state == State.STATE_QUEUED
    beside_others = recover(crashed, max_attempts=2, alone=False).record.generation
    assert beside_others.state == State.STATE_QUEUED
    poisoned = recover(crashed, max_attempts=2).record.generation
    assert (poisoned.state, poisoned.failure.reason) == (State.STATE_FAILED, "POISONED")
    assert "in each of 2 attempts" in poisoned.failure.message
    assert not poisoned.failure.retryable


def test_what_ends_while_it_waits_is_in_no_attempt() -> None:
    """Its progress is 0, which would go back within the attempt that was released before."""
    waiting = record(State.STATE_QUEUED, attempt=1)
    cause = CancelCause.CANCEL_CAUSE_REQUESTED
    _, cancelled = records.cancel(waiting, cause, now=NOW, retention_seconds=DAY)
    assert cancelled is not None
    late = records.time_out(waiting, now=NOW, retention_seconds=DAY)
    for change in (cancelled, late):
        assert (change.record.attempt, change.event.attempt) == (1, 0)


@pytest.mark.parametrize(
    ("ends_with_process", "remote_handle", "expected"),
    [
        (True, "", CancelOutcome.CANCEL_OUTCOME_STOPPED),
        (True, "job-7", CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL),
        (False, "", CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL),
    ],
)
def test_recovery_ends_what_was_to_be_cancelled(
    expected: CancelOutcome.ValueType, remote_handle: str, *, ends_with_process: bool
) -> None:
    """Also in its last attempt: a cancellation is no failure. Only what ran in the process has stopped with it."""
    cause = CancelCause.CANCEL_CAUSE_CALLERS_LOST
    cancelled = record(State.STATE_RUNNING, cancel_cause=cause, remote_handle=remote_handle)
    change = recover(cancelled, ends_with_process=ends_with_process, max_attempts=1)
    stopped = change.record.generation
    assert stopped.state == State.STATE_CANCELLED
    assert (stopped.cancel_outcome, stopped.cancel_cause) == (expected, cause)


def test_what_waits_too_long_times_out() -> None:
    """It can be retried, with more time."""
    late = records.time_out(record(State.STATE_QUEUED), now=NOW, retention_seconds=DAY)
    failure = late.record.generation.failure
    assert (failure.reason, failure.retryable) == ("DEADLINE_EXCEEDED", True)
    assert failure.message == "timed out in the queue"
