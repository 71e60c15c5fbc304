"""Reads what waits in the queue of an engine; all in a transaction of `Database`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from atelier_server.store.priorities import PATIENCE
from atelier_server.store.records import Record, StoredFields
from atelier_server.store.sql import rows
from atelier_server.store.sql.database import Connection, oldest_first

# ruff: noqa: S608 (only conditions of `rows`, the condition below and question marks are put into statements)
EXACT_POSITIONS = 10
"""Positions in a queue less than this are exact, and change as the queue moves."""
_MOST_COUNTED = 100  # of a queue, one by one
_IN_QUEUE = f"{rows.WAITING} AND engine = ?"


def find_next(
    db: Connection,
    engine: str,
    *,
    begun: bool = False,
    preferred: str = "",
    passed_over: Sequence[str] = (),
) -> tuple[Record, StoredFields] | None:
    """The next generation in the engine's queue, with what a claim also carries; None when there is none.

    That is the one that is `preferred`, if it waits there; else the one whose turn it is, see `shares`, of tenants that
    are not `passed_over`. With `begun`, only those count that have a remote job, of any tenant, and the oldest is next.
    """
    if begun:
        return _find_first(db, engine, "remote_handle <> ''", ())
    if preferred and (found := _find_first(db, engine, "id = ?", (preferred,))) is not None:
        return found
    others = f" AND tenant NOT IN ({', '.join('?' * len(passed_over))})" if passed_over else ""
    next_tenant = db.execute(
        f"SELECT tenant FROM shares WHERE engine = ? AND waiting > 0{others} ORDER BY served, tenant LIMIT 1",
        (engine, *passed_over),
    ).fetchone()
    if next_tenant is None:
        return None
    (first,) = list_own(db, engine, next_tenant[0], 1)
    return _find_first(db, engine, "id = ?", (first.generation_id,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A generation in the queue."""

    generation_id: str
    batch: bool
    """Whether it has the priority BATCH."""
    cost: float
    weight: float

    @property
    def share(self) -> float:
        """Its cost by its weight."""
        return self.cost / self.weight


def list_own(
    db: Connection, engine: str, tenant: str, limit: int, joining: Place | None = None
) -> list[Place]:
    """So many of the tenant in the engine's queue, in the order in which they are claimed; with one that joins it."""
    oldest = oldest_first(db)
    kinds = (
        f"SELECT * FROM (SELECT id, batch, cost, weight, {oldest} AS age FROM generations WHERE {rows.WAITING}"
        f" AND engine = ?1 AND caller = ?2 AND batch = {batch} ORDER BY {oldest} LIMIT ?3) AS kind{batch}"
        for batch in (0, 1)
    )
    found = db.execute(
        "SELECT age, id, batch, cost, weight,"
        " (SELECT overtaken FROM shares WHERE tenant = ?2 AND engine = ?1) AS overtaken"
        f" FROM ({' UNION ALL '.join(kinds)}) AS own",
        (engine, tenant, limit),
    ).fetchall()
    queues: tuple[list[Place], list[Place]] = ([], [])
    for _, generation_id, batch, cost, weight, _ in sorted(found):
        place = Place(generation_id=generation_id, batch=bool(batch), cost=cost, weight=weight)
        queues[batch].append(place)
    if joining is not None:
        queues[joining.batch].append(joining)
        queues[joining.batch].sort(key=lambda place: place.generation_id)
    overtaken = found[0][-1] if found else None
    return list(islice(_take_turns(*queues, overtaken=overtaken or 0.0), limit))


def _take_turns(
    interactive: Sequence[Place], batch: Sequence[Place], *, overtaken: float
) -> Iterator[Place]:
    """Both kinds of a tenant in the order in which they are claimed; the triggers keep `shares.overtaken` likewise."""
    urgent, patient = deque(interactive), deque(batch)
    while urgent or patient:
        if patient and (not urgent or overtaken >= PATIENCE * patient[0].cost):
            overtaken = 0.0
            yield patient.popleft()
        else:
            overtaken += urgent[0].cost
            yield urgent.popleft()


def list_ids(db: Connection, engine: str) -> list[str]:
    """Ids of all in the engine's queue, the oldest first, from its index alone."""
    found = db.execute(
        f"SELECT id FROM generations WHERE {_IN_QUEUE} ORDER BY {oldest_first(db)}", (engine,)
    )
    return [generation_id for (generation_id,) in found]


def count(db: Connection, engine: str, caller: str = "", *, batch: bool = False) -> int:
    """How many wait for the engine, a number that the file keeps; 0 for a caller, if one is named, who has none there.

    That is none without the priority BATCH, unless `batch` is said. So no tenant fills a queue for the others, nor its
    batch work for what else it does.
    """
    if caller and not has_waiting(db, engine, caller, batch=batch):
        return 0
    found = db.execute("SELECT waiting FROM queues WHERE engine = ?", (engine,)).fetchone()
    return found[0] if found else 0


def count_interactive(db: Connection, engine: str, tenant: str, waiting: int) -> int:
    """How many of the tenant in the queue have not the priority BATCH; `waiting`, which is all, where they are many."""
    found = db.execute(
        f"SELECT id FROM generations WHERE {_IN_QUEUE} AND caller = ? AND batch = 0 LIMIT ?",
        (engine, tenant, _MOST_COUNTED),
    ).fetchall()
    return len(found) if len(found) < _MOST_COUNTED else waiting


def has_waiting(db: Connection, engine: str, caller: str, *, batch: bool) -> bool:
    """Whether any of the caller wait for the engine; without the priority BATCH, unless `batch` is said."""
    if batch:
        own = "SELECT waiting FROM shares WHERE tenant = ? AND engine = ?"
        found = db.execute(own, (caller, engine)).fetchone()
        return found is not None and bool(found[0])
    interactive = (
        f"SELECT 1 FROM generations WHERE {_IN_QUEUE} AND caller = ? AND batch = 0 LIMIT 1"
    )
    return db.execute(interactive, (engine, caller)).fetchone() is not None


def _find_first(
    db: Connection, engine: str, condition: str, values: tuple[str, ...]
) -> tuple[Record, StoredFields] | None:
    condition = f"{_IN_QUEUE} AND {condition} ORDER BY {oldest_first(db)} LIMIT 1"
    return next(rows.find_stored(db, condition, (engine, *values)), None)
