"""Follows the log of a generation: what is stored, then what happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import closing

from atelier_server.store.events import EventBus, Watcher, repeat
from atelier_server.store.protocol import ENDED, Event
from atelier_server.store.sql import event_rows, rows
from atelier_server.store.sql.database import Connection, Database


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
        with closing(Watcher(topic, max_silence_seconds)) as watcher:
            while True:
                recent = topic.next(after)
                events = [recent] if recent else await _read_events(database, generation_id, after)
                for event in events:
                    yield event
                    after = event.sequence
                    if event.state in ENDED:
                        return
                if topic.exhausted(after):
                    return
                if not await watcher.wait_after(after):
                    last = await _read_last_event(database, generation_id)
                    if last.sequence <= after and last.state not in ENDED:
                        yield repeat(last)


async def _read_events(database: Database, generation_id: str, after: int) -> list[Event]:
    """The events after number `after` that are in the log."""

    def work(db: Connection) -> list[Event]:
        rows.find(db, generation_id)
        return event_rows.events_after(db, generation_id, after)

    return await database.read(work)


async def _read_last_event(database: Database, generation_id: str) -> Event:
    def work(db: Connection) -> Event:
        rows.find(db, generation_id)
        return event_rows.last_event(db, generation_id)

    return await database.read(work)
