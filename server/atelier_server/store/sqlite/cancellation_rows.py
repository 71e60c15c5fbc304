"""Reads and writes why a generation is cancelled; all runs in a transaction of `database.Database`."""

from __future__ import annotations

import sqlite3

from atelier.v1.generation_pb2 import CancelCause, Generation
from atelier_server.store.protocol import Event
from atelier_server.store.sqlite import rows


def request_cancel(
    db: sqlite3.Connection, generation_id: str, cause: CancelCause.ValueType
) -> None:
    """Note why a running generation is to be cancelled; the cause REQUESTED stays."""
    db.execute(
        "UPDATE generations SET cancel_requested = ? WHERE id = ? AND cancel_requested <> ?",
        (cause, generation_id, CancelCause.CANCEL_CAUSE_REQUESTED),
    )


def find_cancel_cause(db: sqlite3.Connection, generation_id: str) -> CancelCause.ValueType:
    """Why the running generation is to be cancelled; UNSPECIFIED if it is not."""
    found = db.execute(
        "SELECT cancel_requested FROM generations WHERE id = ?", (generation_id,)
    ).fetchone()
    cause: CancelCause.ValueType = found[0] if found else CancelCause.CANCEL_CAUSE_UNSPECIFIED
    return cause


def rewrite_end(db: sqlite3.Connection, generation: Generation) -> None:
    """Replace the record of an ended generation, and its copy in the last event."""
    last = rows.last_event(db, generation.id)
    last.generation.CopyFrom(generation)
    record = generation.SerializeToString()
    db.execute("UPDATE generations SET record = ? WHERE id = ?", (record, generation.id))
    rewrite_event(db, last)


def rewrite_event(db: sqlite3.Connection, event: Event) -> None:
    """Replace an event of the log."""
    db.execute(
        "UPDATE events SET record = ? WHERE generation_id = ? AND sequence = ?",
        (event.SerializeToString(), event.generation_id, event.sequence),
    )
