"""Why a generation is cancelled, and what is replaced when it runs again; all in a transaction of `Database`."""

from __future__ import annotations

import json

from atelier.v1.generation_pb2 import CancelCause, Generation
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Event, Submission
from atelier_server.store.sql import event_rows, rows
from atelier_server.store.sql.database import Connection


def request_cancel(db: Connection, generation_id: str, cause: CancelCause.ValueType) -> None:
    """Note why a running generation is to be cancelled; the cause REQUESTED stays."""
    db.execute(
        "UPDATE generations SET cancel_requested = ? WHERE id = ? AND cancel_requested <> ?",
        (cause, generation_id, CancelCause.CANCEL_CAUSE_REQUESTED),
    )


def find_cancel_cause(db: Connection, generation_id: str) -> CancelCause.ValueType:
    """Why the running generation is to be cancelled; UNSPECIFIED if it is not."""
    found = db.execute(
        "SELECT cancel_requested FROM generations WHERE id = ?", (generation_id,)
    ).fetchone()
    cause: CancelCause.ValueType = found[0] if found else CancelCause.CANCEL_CAUSE_UNSPECIFIED
    return cause


def replace_remote_handle(db: Connection, generation_id: str, handle: str) -> None:
    """Let the next attempt continue with that; with a new job, if it is empty."""
    db.execute("UPDATE generations SET remote_handle = ? WHERE id = ?", (handle, generation_id))


def rewrite_record(db: Connection, generation: Generation) -> None:
    """Replace the record of a generation that nobody works on, and its copy in the last event."""
    last = event_rows.last_event(db, generation.id)
    last.generation.CopyFrom(generation)
    record = generation.SerializeToString()
    db.execute("UPDATE generations SET record = ? WHERE id = ?", (record, generation.id))
    rewrite_event(db, last)


def rewrite_event(db: Connection, event: Event) -> None:
    """Replace an event of the log."""
    db.execute(
        "UPDATE events SET record = ? WHERE generation_id = ? AND sequence = ?",
        (event.SerializeToString(), event.generation_id, event.sequence),
    )


def replace_submission(db: Connection, generation_id: str, submission: Submission) -> None:
    """Store of a generation that runs again what its new submission says, and that nobody has cancelled it."""
    db.execute(
        "UPDATE generations SET deadline = ?, request = ?, tenant = ?, subject = ?, trace_context = ?, cost = ?,"
        " weight = ?, batch = ?, cancel_requested = 0 WHERE id = ?",
        (
            submission.deadline,
            submission.request.SerializeToString(),
            submission.metadata.tenant,
            submission.metadata.subject,
            json.dumps(dict(submission.metadata.trace_context)),
            submission.share.cost,
            submission.share.weight,
            int(is_batch(submission.generation)),
            generation_id,
        ),
    )
    rows.add_inputs(db, generation_id, submission)
