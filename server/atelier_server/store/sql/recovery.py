"""Gives back to its queue what a process was running that died; all in a transaction of `Database`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from atelier_server.clock import current_timestamp
from atelier_server.store import isolation, records
from atelier_server.store.isolation import Isolation
from atelier_server.store.protocol import ENDED, Event
from atelier_server.store.records import Record
from atelier_server.store.sql import event_rows, history, rows, shares
from atelier_server.store.sql.database import Connection


def recover(
    db: Connection,
    retention_seconds: float,
    max_attempts: int,
    local_engines: Collection[str],
    free_engines: Collection[str] = (),
) -> tuple[dict[str, int], Isolation | None, list[Event]]:
    """Requeue what a process that died was running, where no other is.

    Returns:
        How many generations wait for each engine, which of them are to run alone (None for none), and the last events
        of those that have ended instead.
    """
    shares.forget_idle(db)
    events = requeue_running(
        db,
        history.running(db),
        retention_seconds=retention_seconds,
        max_attempts=max_attempts,
        local_engines=local_engines,
        free_engines=free_engines,
    )
    ends = [event for event in events if event.state in ENDED]
    return history.count_waiting_by_engine(db), _isolate(db, max_attempts), ends


def requeue_running(
    db: Connection,
    running: Sequence[Record],
    *,
    retention_seconds: float,
    max_attempts: int,
    local_engines: Collection[str],
    free_engines: Collection[str],
) -> list[Event]:
    """Requeue or end all that one process was running when it died; returns the events.

    What ends meanwhile, by a last write of that process, is left alone.
    """
    events = []
    for record in running:
        change = records.recover(
            record,
            event_rows.last_event(db, record.generation.id),
            ends_with_process=record.generation.engine in local_engines,
            may_cost=record.generation.engine not in free_engines,
            max_attempts=max_attempts,
            alone=isolation.ran_alone(record, running, max_attempts),
            now=current_timestamp(),
            retention_seconds=retention_seconds,
        )
        written = rows.write_running(db, record, change)
        if written is not None:
            events.append(written)
    return events


def _isolate(db: Connection, max_attempts: int) -> Isolation | None:
    suspects, beside = find_suspects(db, max_attempts)
    return Isolation(suspects, beside) if suspects else None


def find_suspects(db: Connection, max_attempts: int) -> tuple[set[str], set[str]]:
    """Ids of what waits and is to run alone after a crash, and of what may run beside it."""
    suspects: set[str] = set()
    beside: set[str] = set()
    for record in history.attempted(db):
        if isolation.is_suspect(record, max_attempts):
            suspects.add(record.generation.id)
        elif isolation.runs_beside_others(record, max_attempts):
            beside.add(record.generation.id)
    return suspects, beside
