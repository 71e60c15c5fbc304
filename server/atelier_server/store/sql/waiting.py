"""Reads what waits in the queue of an engine; all in a transaction of `Database`."""

from __future__ import annotations

from collections.abc import Sequence

from atelier_server.store.records import Record, StoredFields
from atelier_server.store.sql import rows
from atelier_server.store.sql.database import Connection, oldest_first

# ruff: noqa: S608 (only conditions of `rows`, the subquery below and question marks are put into statements)
EXACT_POSITIONS = 10
"""Positions in a queue less than this are exact, and change as the queue moves."""
_ALL = 2**62
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
    tenant = f"SELECT tenant FROM shares WHERE engine = ? AND waiting > 0{others} ORDER BY served, tenant LIMIT 1"
    return _find_first(db, engine, f"caller = ({tenant})", (engine, *passed_over))


def list_ids(db: Connection, engine: str, limit: int = _ALL) -> list[str]:
    """Ids of the oldest in the engine's queue, from its index alone; of all without a limit."""
    found = db.execute(
        f"SELECT id FROM generations WHERE {_IN_QUEUE} ORDER BY {oldest_first(db)} LIMIT ?",
        (engine, limit),
    )
    return [generation_id for (generation_id,) in found]


def count(db: Connection, engine: str, caller: str | None = None) -> int:
    """How many wait for the engine, a number that the file keeps; 0 for a caller who has none there.

    So no tenant fills a queue for the others.
    """
    if caller is not None:
        own = "SELECT waiting FROM shares WHERE tenant = ? AND engine = ?"
        found = db.execute(own, (caller, engine)).fetchone()
        if found is None or not found[0]:
            return 0
    found = db.execute("SELECT waiting FROM queues WHERE engine = ?", (engine,)).fetchone()
    return found[0] if found else 0


def count_older(db: Connection, engine: str, generation_id: str) -> int:
    """How many wait for the engine that are older; from EXACT_POSITIONS on only an upper bound."""
    found = db.execute(
        f"SELECT id FROM generations WHERE {_IN_QUEUE} AND id < ? ORDER BY {oldest_first(db)} LIMIT ?",
        (engine, generation_id, EXACT_POSITIONS),
    ).fetchall()
    return len(found) if len(found) < EXACT_POSITIONS else count(db, engine)


def _find_first(
    db: Connection, engine: str, condition: str, values: tuple[str, ...]
) -> tuple[Record, StoredFields] | None:
    condition = f"{_IN_QUEUE} AND {condition} ORDER BY {oldest_first(db)} LIMIT 1"
    return next(rows.find_stored(db, condition, (engine, *values)), None)
