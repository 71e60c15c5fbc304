"""Reads and writes generations, their events and outputs; all runs in a transaction of `sql.database.Database`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation
from atelier.v1.generation_service_pb2 import GenerateRequest, ResponseMode
from atelier_server.clock import STEADY_OFFSET
from atelier_server.errors import NotFoundError
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Claim, Event, Submission, SubmitResult
from atelier_server.store.records import (
    Change,
    Record,
    StoredFields,
    require_same_request,
)
from atelier_server.store.sql import event_rows
from atelier_server.store.sql.database import Connection

# ruff: noqa: S608 (only these column names, conditions and question marks are put into statements)
_COLUMNS = "record, caller, attempt, fence, cancel_requested, remote_handle, sequence"
_STORED_COLUMNS = "request, task, remote_handle, deadline, tenant, subject, trace_context"
WAITING = "state = 1"
RUNNING = "state = 2"
"""Conditions of indexes, as they must be written for SQLite to use these."""
_NEXT_SEQUENCE = "sequence = sequence + ?"  # the number of events; the first value of a statement


@dataclass(frozen=True, slots=True)
class Row:
    """A record and the number of its last event."""

    record: Record
    sequence: int


def find(db: Connection, generation_id: str, caller: str | None = None) -> Row:
    """The generation's row, if that caller owns it; None stands for any caller.

    Raises:
        NotFoundError: it does not exist, or another caller owns it: callers can't tell the two apart.
    """
    found = db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE id = ?", (generation_id,)
    ).fetchone()
    if found is None or (caller is not None and found[1] != caller):
        raise _not_found(generation_id)
    return _row(found)


def find_by_request_id(
    db: Connection, caller: str, request_id: str, digest: bytes
) -> SubmitResult | None:
    """The generation that the same request of the same caller made before, if any.

    Raises:
        ConflictError: the request id was used for another task.
    """
    found = db.execute(
        "SELECT digest, record, request FROM generations WHERE caller = ? AND request_id = ?",
        (caller, request_id),
    ).fetchone()
    if found is None:
        return None
    stored, record, request = found
    require_same_request(request_id, stored=stored, given=digest)
    return to_result(record, request)


def ends_with_callers(request: GenerateRequest) -> bool:
    """Whether what the request makes is cancelled when its callers are lost."""
    return request.response_mode != ResponseMode.RESPONSE_MODE_ON_ACCEPTANCE


def to_result(record: bytes, request: bytes) -> SubmitResult:
    """What finds a generation answers with, from its record and the request as it was accepted."""
    return SubmitResult(
        generation=Generation.FromString(record),
        created=False,
        ends_with_callers=ends_with_callers(GenerateRequest.FromString(request)),
    )


def insert(db: Connection, submission: Submission, record: Record, events: Sequence[Event]) -> None:
    """Add an accepted generation with its first events, and number these."""
    generation = record.generation
    event_rows.write_logged(
        db,
        "INSERT INTO generations (id, caller, request_id, digest, engine, state, attempt, fence, sequence, deadline,"
        " request, task, tenant, subject, trace_context, cost, weight, batch, record)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            generation.id,
            submission.caller,
            generation.request_id,
            submission.digest,
            generation.engine,
            generation.state,
            record.attempt,
            record.fence,
            len(events),
            submission.deadline,
            submission.request.SerializeToString(),
            submission.task,
            submission.metadata.tenant,
            submission.metadata.subject,
            json.dumps(dict(submission.metadata.trace_context)),
            submission.share.cost,
            submission.share.weight,
            int(is_batch(generation)),
            generation.SerializeToString(),
        ),
        events,
    )
    add_inputs(db, generation.id, submission)


def write(db: Connection, change: Change) -> Event:
    """Write the change of a record that was read in this transaction; returns its event, numbered."""
    generation_id = change.record.generation.id
    _require(_update(db, change, "id = ?", (generation_id,)), generation_id)
    return change.event


def write_claimed(
    db: Connection,
    claim: Claim,
    change: Change,
    *,
    cancel_requested: bool | None = None,
    unlogged: Sequence[Event] = (),
) -> Event | None:
    """Write the change if the claim is valid, and before its event those that are `unlogged`.

    With `cancel_requested`, also only if a cancellation was requested, or was not.

    Returns:
        The event of the change, numbered as the others are; None if nothing was written.
    """
    condition, values = _claimed(claim)
    if cancel_requested is not None:
        condition = f"{condition} AND (cancel_requested <> 0) = ?"
        values = (*values, cancel_requested)
    return _update(db, change, condition, values, unlogged)


def write_running(db: Connection, record: Record, change: Change) -> Event | None:
    """Write the change of a record if that is still running under the same claim; its event, or None."""
    condition, values = _running(record.generation.id, record.fence)
    return _update(db, change, condition, values)


def append_claimed(db: Connection, claim: Claim, events: Sequence[Event]) -> Sequence[Event] | None:
    """Append the events if the claim is valid; returns them, numbered, else None."""
    condition, values = _claimed(claim)
    return _append(db, events, f"UPDATE generations SET {_NEXT_SEQUENCE} WHERE {condition}", values)


def append(db: Connection, event: Event) -> Event:
    """Append the event of a generation that exists; returns it, numbered."""
    statement = f"UPDATE generations SET {_NEXT_SEQUENCE} WHERE id = ?"
    _require(_append(db, [event], statement, (event.generation_id,)), event.generation_id)
    return event


def set_task(db: Connection, claim: Claim, generation: Generation, task: bytes) -> bool:
    """Store task and record if the claim is valid; says whether it was."""
    condition, values = _claimed(claim)
    return _changes_one(
        db,
        f"UPDATE generations SET task = ?, record = ? WHERE {condition}",
        (task, generation.SerializeToString(), *values),
    )


def set_remote_handle(db: Connection, claim: Claim, handle: str) -> bool:
    """Store what identifies a remote job if the claim is valid; says whether it was."""
    condition, values = _claimed(claim)
    return _changes_one(
        db, f"UPDATE generations SET remote_handle = ? WHERE {condition}", (handle, *values)
    )


def find_stored(
    db: Connection, condition: str, values: tuple[Any, ...] = ()
) -> Iterator[tuple[Record, StoredFields]]:
    """The generations for which the condition holds, with what a claim also carries."""
    found = db.execute(
        f"SELECT {_COLUMNS}, {_STORED_COLUMNS} FROM generations WHERE {condition}", values
    )
    return ((_row(fields[:7]).record, StoredFields(*fields[7:])) for fields in found)


def find_attempt(db: Connection, generation_id: str) -> int:
    """Number of the newest attempt of a generation that exists."""
    found = db.execute("SELECT attempt FROM generations WHERE id = ?", (generation_id,))
    return int(found.fetchone()[0])


def find_records(db: Connection, condition: str, values: tuple[Any, ...]) -> Iterator[Record]:
    """The generations for which the condition holds."""
    found = db.execute(f"SELECT {_COLUMNS} FROM generations WHERE {condition}", values)
    return (_row(fields).record for fields in found)


def add_artifacts(db: Connection, caller: str, artifacts: Sequence[Artifact]) -> None:
    """Add the records of stored blobs; each expires as long after now as its timestamps say."""
    if not artifacts:
        return
    db.executemany(
        "INSERT INTO artifacts (id, caller, expires, record, size) VALUES (?, ?, ?, ?, ?)",
        [
            (
                artifact.id,
                caller,
                _find_expiry(artifact.expire_time),
                artifact.SerializeToString(),
                artifact.size,
            )
            for artifact in artifacts
        ],
    )


def add_inputs(db: Connection, generation_id: str, submission: Submission) -> None:
    """Keep the artifacts that the submission needs as long as the generation."""
    if not submission.inputs:
        return
    db.executemany(
        "INSERT INTO inputs (generation_id, artifact_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(generation_id, artifact_id) for artifact_id in submission.inputs],
    )


def _row(found: tuple[Any, ...]) -> Row:
    record, caller, attempt, fence, cancel_requested, remote_handle, sequence = found
    return Row(
        Record(
            generation=Generation.FromString(record),
            caller=caller,
            attempt=attempt,
            fence=fence,
            cancel_cause=cancel_requested,
            remote_handle=remote_handle,
        ),
        sequence,
    )


def _require(written: object, generation_id: str) -> None:
    if written is None:
        raise _not_found(generation_id)


def _not_found(generation_id: str) -> NotFoundError:
    return NotFoundError(f"no generation {generation_id!r}")


def _claimed(claim: Claim) -> tuple[str, tuple[Any, ...]]:
    """The condition of every write under a claim."""
    return _running(claim.generation.id, claim.fence)


def _running(generation_id: str, fence: int) -> tuple[str, tuple[Any, ...]]:
    return f"id = ? AND {RUNNING} AND fence = ?", (generation_id, fence)


def _update(
    db: Connection,
    change: Change,
    condition: str,
    values: tuple[Any, ...],
    unlogged: Sequence[Event] = (),
) -> Event | None:
    """Write a change where the condition holds, together with its events, artifacts and cost."""
    record, generation = change.record, change.record.generation
    has_ended = generation.HasField("expire_time")
    expires = _find_expiry(generation.expire_time) if has_ended else None
    statement = (
        f"UPDATE generations SET {_NEXT_SEQUENCE}, state = ?, engine = ?, attempt = ?, fence = ?, expires = ?,"
        " record = ?, task = coalesce(?, task), remote_handle = CASE WHEN ? THEN '' ELSE remote_handle END"
        f" WHERE {condition}"
    )
    written = _append(
        db,
        [*unlogged, change.event],
        statement,
        (
            generation.state,
            generation.engine,
            record.attempt,
            record.fence,
            expires,
            generation.SerializeToString(),
            change.task,
            change.forget_remote_handle,
            *values,
        ),
    )
    if written is None:
        return None
    add_artifacts(db, record.caller, change.artifacts)
    add_spending(db, record.caller, generation.engine, change.cost)
    return change.event


def _find_expiry(expire_time: Timestamp) -> float:
    """The steady time that is as far from now as the timestamp."""
    left = expire_time.ToMicroseconds() / 1e6 - time.time()
    return STEADY_OFFSET + time.monotonic() + left


def _append(
    db: Connection, events: Sequence[Event], statement: str, values: tuple[Any, ...]
) -> Sequence[Event] | None:
    """Append events under the numbers that the update draws; None when the update finds no row."""
    last = event_rows.write_logged(db, statement, (len(events), *values), events)
    return None if last is None else events


def add_spending(db: Connection, caller: str, engine: str, amount: float) -> None:
    """Add to what the engine has cost today, and to what the caller has spent."""
    if amount:
        db.execute(
            "INSERT INTO spending (engine, amount) VALUES (?, ?)"
            " ON CONFLICT (engine, day) DO UPDATE SET amount = spending.amount + excluded.amount",
            (engine, amount),
        )
        db.execute(
            "UPDATE shares SET used = CASE WHEN day = current_date THEN used ELSE 0 END,"
            " spent = CASE WHEN day = current_date THEN spent ELSE 0 END + ?, day = current_date"
            " WHERE tenant = ? AND engine = ?",
            (amount, caller, engine),
        )


def _changes_one(db: Connection, statement: str, values: tuple[Any, ...]) -> bool:
    return db.execute(statement, values).rowcount == 1
