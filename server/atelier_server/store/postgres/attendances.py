"""Which processes have calls that wait for a generation; all in a transaction of `Database`.

The process that accepts a generation stands in its row, which costs no statement. Others, and those that only follow,
have a row in `attendances`. What a process has said counts as long as it has a lease.
"""

from __future__ import annotations

from atelier.v1.generation_pb2 import CancelCause
from atelier_server.store.postgres.connections import PostgresConnection
from atelier_server.store.postgres.processes import DEAD
from atelier_server.store.sql import rows

# ruff: noqa: S608 (only conditions of other modules are put into statements)
_LIVING = f"(SELECT id FROM processes WHERE NOT {DEAD})"
_ATTEND = f"""
INSERT INTO attendances (generation, process, started)
    SELECT id, ?, ? FROM generations WHERE id = ? AND ({rows.WAITING} OR {rows.RUNNING}) AND cancel_requested <> ?
    ON CONFLICT (generation, process) DO UPDATE SET started = attendances.started OR excluded.started
"""
_ATTENDED = f"""
SELECT EXISTS (SELECT 1 FROM attendances WHERE generation = ? AND process <> ? AND (started OR ?)
        AND process IN {_LIVING})
    OR EXISTS (SELECT 1 FROM generations WHERE id = ? AND submitter <> ? AND submitter IN {_LIVING})
"""
_FORGET = """
DELETE FROM attendances a WHERE process NOT IN (SELECT id FROM processes)
    OR NOT EXISTS (SELECT 1 FROM generations WHERE id = a.generation)
"""


def attend(
    db: PostgresConnection, process: int, generation_id: str, *, started: bool, again: bool
) -> bool:
    """See Attendance.attend."""
    if again:
        query = "UPDATE generations SET submitter = ? WHERE id = ?"
        return db.execute(query, (process, generation_id)).rowcount > 0
    lost = int(CancelCause.CANCEL_CAUSE_CALLERS_LOST)
    return db.execute(_ATTEND, (process, started, generation_id, lost)).rowcount > 0


def leave(db: PostgresConnection, process: int, generation_id: str) -> bool:
    """See Attendance.leave."""
    query = "DELETE FROM attendances WHERE generation = ? AND process = ? RETURNING started"
    return any(started for (started,) in db.execute(query, (generation_id, process)))


def is_wanted_elsewhere(
    db: PostgresConnection,
    process: int,
    generation_id: str,
    *,
    any_call: bool,
    still_followed: bool,
    lease_seconds: float,
) -> bool:
    """Give up what this process had to say; whether another one has something to say."""
    own = (generation_id, process)
    db.execute("UPDATE generations SET submitter = NULL WHERE id = ? AND submitter = ?", own)
    if still_followed:
        db.execute(
            "UPDATE attendances SET started = FALSE WHERE generation = ? AND process = ?", own
        )
    else:
        db.execute("DELETE FROM attendances WHERE generation = ? AND process = ?", own)
    lease = float(lease_seconds)
    values = (generation_id, process, any_call, lease, generation_id, process, lease)
    ((wanted,),) = db.execute(_ATTENDED, values)
    if wanted and any_call:
        db.execute("UPDATE attendances SET started = TRUE WHERE generation = ?", (generation_id,))
    if not wanted:
        db.execute("DELETE FROM attendances WHERE generation = ?", (generation_id,))
    return bool(wanted)


def forget(db: PostgresConnection) -> None:
    """Forget what processes have said that have died, and of generations that were deleted."""
    db.execute(_FORGET)
