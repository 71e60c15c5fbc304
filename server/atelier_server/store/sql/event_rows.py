"""Reads and writes the numbered log of a generation; all runs in a transaction of `sql.database.Database`."""

from __future__ import annotations

from collections.abc import Sequence

from atelier_server.store.protocol import Event
from atelier_server.store.sql.database import Connection


def insert_events(db: Connection, events: Sequence[Event], first: int) -> None:
    """Number the events from `first` on, and insert them."""
    for sequence, event in enumerate(events, first):
        event.sequence = sequence
    db.executemany(
        "INSERT INTO events (generation_id, sequence, record) VALUES (?, ?, ?)",
        [(event.generation_id, event.sequence, event.SerializeToString()) for event in events],
    )


def events_after(db: Connection, generation_id: str, after: int) -> list[Event]:
    """The events with a greater number, in order."""
    found = db.execute(
        "SELECT record FROM events WHERE generation_id = ? AND sequence > ? ORDER BY sequence",
        (generation_id, after),
    )
    return [Event.FromString(record) for (record,) in found]


def last_event(db: Connection, generation_id: str) -> Event:
    """The newest event of the log."""
    (record,) = db.execute(
        "SELECT record FROM events WHERE generation_id = ? ORDER BY sequence DESC LIMIT 1",
        (generation_id,),
    ).fetchone()
    return Event.FromString(record)
