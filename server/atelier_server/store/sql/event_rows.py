"""Reads and writes the numbered log of a generation; all runs in a transaction of `sql.database.Database`.

What is stored of an event need not have its number, which stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atelier_server.store.protocol import Event
from atelier_server.store.sql.database import Connection, LogsAtOnce


def write_logged(
    db: Connection, statement: str, values: tuple[Any, ...], events: Sequence[Event]
) -> int | None:
    """Run a statement that writes one generation and the number of its last event, and insert the events up to that.

    Returns:
        The number; None if the statement found no generation.
    """
    stored = [event.SerializeToString() for event in events]
    if isinstance(db, LogsAtOnce):
        last = db.write_logged(statement, values, stored)
    else:
        last = _write_logged(db, statement, values, stored)
    if last is not None:
        for sequence, event in enumerate(events, last - len(events) + 1):
            event.sequence = sequence
    return last


def events_after(db: Connection, generation_id: str, after: int) -> list[Event]:
    """The events with a greater number, in order."""
    found = db.execute(
        "SELECT sequence, record FROM events WHERE generation_id = ? AND sequence > ? ORDER BY sequence",
        (generation_id, after),
    )
    return [_read(*fields) for fields in found]


def last_event(db: Connection, generation_id: str) -> Event:
    """The newest event of the log."""
    found = db.execute(
        "SELECT sequence, record FROM events WHERE generation_id = ? ORDER BY sequence DESC LIMIT 1",
        (generation_id,),
    )
    return _read(*found.fetchone())


def _read(sequence: int, record: bytes) -> Event:
    event = Event.FromString(record)
    event.sequence = sequence
    return event


def _write_logged(
    db: Connection, statement: str, values: tuple[Any, ...], stored: Sequence[bytes]
) -> int | None:
    found = db.execute(f"{statement} RETURNING id, sequence", values).fetchone()
    if found is None:
        return None
    generation_id, last = found
    db.executemany(
        "INSERT INTO events (generation_id, sequence, record) VALUES (?, ?, ?)",
        [
            (generation_id, sequence, record)
            for sequence, record in enumerate(stored, last - len(stored) + 1)
        ],
    )
    return int(last)
