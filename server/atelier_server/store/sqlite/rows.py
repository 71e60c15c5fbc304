"""Reads and writes rows; every function runs inside a transaction of `database.Database`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.errors import ConflictError, NotFoundError
from atelier_server.store.protocol import ENDED, Event, Metadata, Query, Submission


@dataclass(frozen=True, slots=True)
class Row:
    """One generation as it lies in the table."""

    id: str
    caller: str
    engine: str
    state: int
    attempt: int
    fence: int
    sequence: int
    cancel_requested: int
    remote_handle: str
    deadline: float | None
    request: bytes
    task: bytes
    tenant: str
    trace_context: str
    record: bytes

    @property
    def generation(self) -> Generation:
        """The generation, parsed."""
        return Generation.FromString(self.record)

    @property
    def metadata(self) -> Metadata:
        """The metadata, as submitted."""
        return Metadata(tenant=self.tenant, trace_context=json.loads(self.trace_context))


# ruff: noqa: S608 (only these column names and question marks are put into statements)
_COLUMNS = (
    "id, caller, engine, state, attempt, fence, sequence, cancel_requested, remote_handle, deadline, request, task,"
    " tenant, trace_context, record"
)


def _row(fields: tuple[Any, ...]) -> Row:
    return Row(*fields)


def find(db: sqlite3.Connection, generation_id: str, caller: str | None = None) -> Row:
    """The row, if it is that caller's (None: anybody's).

    Raises:
        NotFoundError: it is not there, or not theirs: callers can't tell the two apart.
    """
    fields = db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE id = ?", (generation_id,)
    ).fetchone()
    if fields is None or (caller is not None and fields[1] != caller):
        msg = f"no generation {generation_id!r}"
        raise NotFoundError(msg)
    return _row(fields)


def find_by_request_id(
    db: sqlite3.Connection, caller: str, request_id: str, digest: bytes
) -> Generation | None:
    """The generation that the same caller's same request made before, if any.

    Raises:
        ConflictError: its request id was used for something else.
    """
    found = db.execute(
        "SELECT digest, record FROM generations WHERE caller = ? AND request_id = ?",
        (caller, request_id),
    ).fetchone()
    if found is None:
        return None
    if found[0] != digest:
        msg = f"request_id {request_id!r} was used for another task; give this one its own"
        raise ConflictError(msg)
    return Generation.FromString(found[1])


def insert(db: sqlite3.Connection, submission: Submission) -> None:
    """Add the generation, waiting."""
    generation = submission.generation
    db.execute(
        "INSERT INTO generations (id, caller, request_id, digest, engine, state, deadline, request, task, tenant,"
        " trace_context, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            generation.id,
            submission.caller,
            generation.request_id,
            submission.digest,
            generation.engine,
            generation.state,
            submission.deadline,
            submission.request.SerializeToString(),
            submission.task,
            submission.metadata.tenant,
            json.dumps(dict(submission.metadata.trace_context)),
            generation.SerializeToString(),
        ),
    )
    db.executemany(
        "INSERT OR IGNORE INTO inputs (generation_id, artifact_id) VALUES (?, ?)",
        [(generation.id, artifact_id) for artifact_id in submission.inputs],
    )


def update(db: sqlite3.Connection, row: Row, generation: Generation, *, attempt: int) -> None:
    """Write the generation's new standing."""
    expires = (
        generation.expire_time.ToMicroseconds() / 1e6
        if generation.HasField("expire_time")
        else None
    )
    db.execute(
        "UPDATE generations SET state = ?, engine = ?, attempt = ?, expires = ?, record = ? WHERE id = ?",
        (
            generation.state,
            generation.engine,
            attempt,
            expires,
            generation.SerializeToString(),
            row.id,
        ),
    )


def increment_fence(db: sqlite3.Connection, row: Row) -> None:
    """Make every earlier claim of the generation void."""
    db.execute("UPDATE generations SET fence = fence + 1 WHERE id = ?", (row.id,))


def set_remote_handle(db: sqlite3.Connection, row: Row, handle: str) -> None:
    """Remember what finds the work that a remote service has taken; empty to forget it."""
    db.execute("UPDATE generations SET remote_handle = ? WHERE id = ?", (handle, row.id))


def append(db: sqlite3.Connection, generation: Generation, attempt: int, event: Event) -> Event:
    """Number the event, fill in where the generation stands, and add it to the log."""
    (event.sequence,) = db.execute(
        "UPDATE generations SET sequence = sequence + 1 WHERE id = ? RETURNING sequence",
        (generation.id,),
    ).fetchone()
    event.generation_id = generation.id
    event.state = generation.state
    event.engine = generation.engine
    event.attempt = attempt
    event.time.GetCurrentTime()
    if generation.state in ENDED:
        event.generation.CopyFrom(generation)
        event.progress = 1.0 if generation.state == State.STATE_SUCCEEDED else event.progress
    db.execute(
        "INSERT INTO events (generation_id, sequence, record) VALUES (?, ?, ?)",
        (generation.id, event.sequence, event.SerializeToString()),
    )
    return event


def events_after(db: sqlite3.Connection, generation_id: str, after: int) -> list[Event]:
    """The events with a greater sequence, in order."""
    found = db.execute(
        "SELECT record FROM events WHERE generation_id = ? AND sequence > ? ORDER BY sequence",
        (generation_id, after),
    )
    return [Event.FromString(record) for (record,) in found]


def last_event(db: sqlite3.Connection, row: Row) -> Event:
    """The newest event of the log, to go on from."""
    (record,) = db.execute(
        "SELECT record FROM events WHERE generation_id = ? AND sequence = ?", (row.id, row.sequence)
    ).fetchone()
    return Event.FromString(record)


def waiting(db: sqlite3.Connection, engine: str, limit: int = -1) -> list[Row]:
    """The generations that wait for the engine, oldest first."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE state = 1 AND engine = ? ORDER BY id LIMIT ?",
        (engine, limit),
    )
    return [_row(fields) for fields in found]


def count_waiting(db: sqlite3.Connection, engine: str, before: str = "~") -> int:
    """How many wait for the engine; with `before`, only those with a lesser id, which are ahead of it."""
    (count,) = db.execute(
        "SELECT count(*) FROM generations WHERE state = 1 AND engine = ? AND id < ?",
        (engine, before),
    ).fetchone()
    return int(count)


def waiting_by_engine(db: sqlite3.Connection) -> dict[str, int]:
    """How many wait for each engine."""
    return dict(
        db.execute(
            "SELECT engine, count(*) FROM generations WHERE state = 1 GROUP BY engine"
        ).fetchall()
    )


def running(db: sqlite3.Connection) -> list[Row]:
    """The generations that somebody claimed."""
    found = db.execute(f"SELECT {_COLUMNS} FROM generations WHERE state = 2 ORDER BY id")
    return [_row(fields) for fields in found]


def overdue(db: sqlite3.Connection, now: float) -> list[Row]:
    """The generations that still wait though their deadline has passed."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM generations WHERE state = 1 AND deadline < ? ORDER BY id",
        (now,),
    )
    return [_row(fields) for fields in found]


def search(db: sqlite3.Connection, query: Query) -> list[Generation]:
    """The generations that the query asks for, newest first."""
    conditions, values = ["caller = ?"], [query.caller]
    if query.before:
        conditions, values = [*conditions, "id < ?"], [*values, query.before]
    if query.engine:
        conditions, values = [*conditions, "engine = ?"], [*values, query.engine]
    if query.states:
        conditions.append(f"state IN ({', '.join(str(int(state)) for state in query.states)})")
    found = db.execute(
        f"SELECT record FROM generations WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
        (*values, query.limit),
    )
    return [Generation.FromString(record) for (record,) in found]


def set_task(db: sqlite3.Connection, row: Row, task: bytes) -> None:
    """Store the decided task."""
    db.execute("UPDATE generations SET task = ? WHERE id = ?", (task, row.id))


def request_of(row: Row) -> GenerateRequest:
    """The request, parsed."""
    return GenerateRequest.FromString(row.request)


def add_artifacts(db: sqlite3.Connection, caller: str, artifacts: Iterable[Artifact]) -> None:
    """Make stored blobs known."""
    db.executemany(
        "INSERT INTO artifacts (id, caller, expires, record) VALUES (?, ?, ?, ?)",
        [
            (
                artifact.id,
                caller,
                artifact.expire_time.ToMicroseconds() / 1e6,
                artifact.SerializeToString(),
            )
            for artifact in artifacts
        ],
    )


def find_artifact(db: sqlite3.Connection, caller: str, artifact_id: str) -> Artifact:
    """What is known of the blob.

    Raises:
        NotFoundError: it is not there, or not theirs.
    """
    found = db.execute(
        "SELECT caller, record FROM artifacts WHERE id = ?", (artifact_id,)
    ).fetchone()
    if found is None or found[0] != caller:
        msg = f"no artifact {artifact_id!r}"
        raise NotFoundError(msg)
    return Artifact.FromString(found[1])


def add_spending(db: sqlite3.Connection, engine: str, amount: float) -> None:
    """Count money spent today."""
    db.execute(
        "INSERT INTO spending (engine, amount) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
        (engine, amount),
    )


def spent_today(db: sqlite3.Connection, engine: str) -> float:
    """Money spent on the engine since midnight UTC."""
    found = db.execute(
        "SELECT amount FROM spending WHERE engine = ? AND day = date('now')", (engine,)
    ).fetchone()
    return found[0] if found else 0.0


def unknown_artifacts(db: sqlite3.Connection, artifact_ids: Iterable[str]) -> list[str]:
    """Those of the ids that no artifact has."""
    found = (
        (artifact_id, db.execute("SELECT 1 FROM artifacts WHERE id = ?", (artifact_id,)).fetchone())
        for artifact_id in artifact_ids
    )
    return [artifact_id for artifact_id, known in found if known is None]


def delete_expired(db: sqlite3.Connection, now: float) -> list[str]:
    """Delete what outlived its time; returns the ids of the artifacts among it."""
    db.execute("DELETE FROM generations WHERE expires < ?", (now,))
    gone = db.execute(
        "DELETE FROM artifacts WHERE expires < ?"
        " AND NOT EXISTS (SELECT 1 FROM inputs WHERE inputs.artifact_id = artifacts.id) RETURNING id",
        (now,),
    ).fetchall()
    return [artifact_id for (artifact_id,) in gone]
