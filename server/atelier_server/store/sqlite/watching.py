"""Follows the log of a generation: what is stored, then what happens."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator

from atelier_server.store.events import EventBus, Topic, repeat
from atelier_server.store.protocol import ENDED, Event
from atelier_server.store.sqlite import event_rows, rows
from atelier_server.store.sqlite.database import Database


async def watch(
    database: Database,
    bus: EventBus,
    generation_id: str,
    after: int,
    max_silence_seconds: float | None,
) -> AsyncGenerator[Event]:
    """See Store.watch."""
    with bus.subscribe(generation_id, watching=True) as topic:
        row = await database.read(lambda db: rows.find(db, generation_id))
        if row.record.generation.state in ENDED and row.sequence <= after:
            return
        while True:
            for event in await _read_events(database, topic, generation_id, after):
                yield event
                after = event.sequence
                if event.state in ENDED:
                    return
            if topic.exhausted(after):
                return
            if not await topic.wait_after(after, max_silence_seconds):
                last = await _read_last_event(database, generation_id)
                if last.sequence <= after and last.state not in ENDED:
                    yield repeat(last)


async def _read_events(
    database: Database, topic: Topic, generation_id: str, after: int
) -> list[Event]:
    """The events after number `after`: the next one if it is in memory, else all that the log has."""
    if (event := topic.next(after)) is not None:
        return [event]

    def work(db: sqlite3.Connection) -> list[Event]:
        rows.find(db, generation_id)
        return event_rows.events_after(db, generation_id, after)

    return await database.read(work)


async def _read_last_event(database: Database, generation_id: str) -> Event:
    def work(db: sqlite3.Connection) -> Event:
        rows.find(db, generation_id)
        return event_rows.last_event(db, generation_id)

    return await database.read(work)
