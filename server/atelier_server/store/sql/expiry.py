"""Fails and deletes what has lasted too long, a little in each transaction, so that no other write waits for long."""

from __future__ import annotations

from itertools import accumulate

from atelier_server.clock import current_timestamp
from atelier_server.store import records
from atelier_server.store.protocol import Event
from atelier_server.store.records import Record
from atelier_server.store.sql import rows, usage
from atelier_server.store.sql.database import Connection

_MAX_OVERDUE = 20  # a transaction
_MAX_GENERATIONS = 25
_MAX_EVENTS = 250
_MAX_ARTIFACTS = 100
_DELETE_UNNEEDED = "DELETE FROM artifacts WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM inputs WHERE artifact_id = ?1)"
_IN_USE_SECONDS = 20.0  # until an artifact that has expired but is needed is looked at again


def fail_overdue(db: Connection, now: float, retention_seconds: float) -> list[Event]:
    """Fail some of what waited past its deadline; returns the last events, none when nothing is left."""
    time = current_timestamp()
    events = []
    for record in _find_overdue(db, now, _MAX_OVERDUE):
        usage.charge_ended(db, record)
        change = records.time_out(record, now=time, retention_seconds=retention_seconds)
        events.append(rows.write(db, change))
    return events


def delete_generations(db: Connection, now: float) -> bool:
    """Delete some of the expired generations with their logs; returns whether there were any."""
    expired = db.execute(
        "SELECT id, sequence FROM generations WHERE expires < ? ORDER BY expires LIMIT ?",
        (now, _MAX_GENERATIONS),
    ).fetchall()
    before = accumulate((count for _, count in expired), initial=0)
    chosen = [
        (found[0],) for found, events in zip(expired, before, strict=False) if events < _MAX_EVENTS
    ]
    db.executemany("DELETE FROM generations WHERE id = ?", chosen)
    return bool(expired)


def delete_artifacts(db: Connection, now: float) -> list[str] | None:
    """Delete some of the expired artifacts; returns the ids of those deleted, None when nothing has expired.

    Those that a generation needs stay, and are not looked at again for a while.
    """
    expired = db.execute(
        "SELECT id FROM artifacts WHERE expires < ? ORDER BY expires LIMIT ?",
        (now, _MAX_ARTIFACTS),
    ).fetchall()
    if not expired:
        return None
    deleted = []
    for (artifact_id,) in expired:
        if db.execute(_DELETE_UNNEEDED, (artifact_id,)).rowcount:
            deleted.append(artifact_id)
        else:
            db.execute(
                "UPDATE artifacts SET expires = ? WHERE id = ?",
                (now + _IN_USE_SECONDS, artifact_id),
            )
    return deleted


def _find_overdue(db: Connection, now: float, limit: int) -> list[Record]:
    """Generations that still wait after their deadline, longest overdue first."""
    condition = f"{rows.WAITING} AND deadline < ? ORDER BY deadline LIMIT ?"
    return list(rows.find_records(db, condition, (now, limit)))
