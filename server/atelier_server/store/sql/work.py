"""Reads what there is to do for all engines; all in a transaction of `Database`."""

from __future__ import annotations

from collections import Counter, defaultdict

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.store.sql import rows
from atelier_server.store.sql.database import Connection
from atelier_server.store.work_protocol import EngineWork

# ruff: noqa: S608 (only conditions of `rows` are put into statements)


def list_work(db: Connection) -> dict[str, EngineWork]:
    """What there is to do, by engine; looks at what each tenant has waiting, and at all that runs."""
    waiting: Counter[str] = Counter()
    running: Counter[str] = Counter()
    cost: defaultdict[str, float] = defaultdict(float)
    queued = "SELECT engine, waiting, cost FROM shares WHERE engine >= '' AND waiting > 0"
    for engine, count, units in db.execute(queued):
        waiting[engine] += count
        cost[engine] += units
    for engine, units in db.execute(f"SELECT engine, cost FROM generations WHERE {rows.RUNNING}"):
        running[engine] += 1
        cost[engine] += units
    return {
        engine: EngineWork(
            waiting=waiting[engine], running=running[engine], cost=max(0.0, cost[engine])
        )
        for engine in waiting | running
    }


def list_newest_succeeded(db: Connection, limit: int) -> list[tuple[Generation, float]]:
    """Of those that ended last the ones that succeeded, newest first, with their cost units."""
    found = db.execute(
        "SELECT state, record, cost FROM generations WHERE expires IS NOT NULL ORDER BY expires DESC LIMIT ?",
        (limit,),
    )
    return [
        (Generation.FromString(record), cost)
        for state, record, cost in found
        if state == State.STATE_SUCCEEDED
    ]
