"""In which order the generations of several tenants are claimed; all in a transaction of `Database`.

This is start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). For each engine a tenant has a virtual time,
`shares.served`: the cost units that were claimed for it, each divided by its weight. Of the tenants with work in the
queue, that with the least is next, and of its generations the oldest. Who had nothing there joins at
`queues.virtual_time`, that of the tenant claimed from last, unless it is ahead of that: unused shares are not saved up.
The triggers of schema.sql keep both numbers, so every way into a queue and out of it counts; what is given back to the
queue that it was claimed from is counted off again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from atelier_server.store.sql import rows, waiting
from atelier_server.store.sql.database import Connection, oldest_first

# ruff: noqa: S608 (only conditions of `rows` are put into statements)
_MAX_TENANTS = 100  # that an estimate looks at; those who are served later are counted in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A generation that is about to enter a queue."""

    generation_id: str
    """Its id."""
    tenant: str
    """Whose it is."""
    share: float | None = None
    """Its cost by its weight; None if it is stored already."""
    given_back: bool = False
    """Whether it was claimed from this queue."""


def list_next(db: Connection, engine: str, limit: int) -> list[str]:
    """Ids of so many generations in the engine's queue, in the order in which they will be claimed."""
    heads = db.execute(
        "SELECT served, tenant FROM shares WHERE engine = ? AND waiting > 0 ORDER BY served, tenant LIMIT ?",
        (engine, max(2, limit)),
    ).fetchall()
    if len(heads) < 2:  # noqa: PLR2004 (one tenant alone)
        return waiting.list_ids(db, engine, limit)
    return _merge(
        heads, {tenant: _list_waiting(db, engine, tenant, limit) for _, tenant in heads}, limit
    )


def count_ahead(db: Connection, engine: str, joining: Joining) -> int:
    """How many will be claimed from the engine's queue before the one that joins it.

    Exact below EXACT_POSITIONS, if nothing else comes; from there on an upper bound while one tenant waits alone, and
    an estimate by the shares of several.
    """
    others = _list_others(db, engine, joining.tenant)
    if not others:
        return waiting.count_older(db, engine, joining.generation_id)
    share = _find_share(db, joining)
    own = _find_standing(db, engine, joining.tenant)
    served = own.served - share if joining.given_back else own.served
    limit = waiting.EXACT_POSITIONS
    heads = [(served, joining.tenant), *((other.served, other.tenant) for other in others[:limit])]
    queues = {tenant: _list_waiting(db, engine, tenant, limit) for _, tenant in heads}
    queues[joining.tenant] = iter(sorted([*queues[joining.tenant], (joining.generation_id, share)]))
    order = _merge(heads, queues, limit)
    if joining.generation_id in order:
        return order.index(joining.generation_id)
    start = served + own.load
    ahead = own.waiting + sum(other.count_before(start) for other in others)
    return max(limit, ahead)


def forget_idle(db: Connection) -> None:
    """Delete what says no more than a tenant that was never seen has: at a start, while nothing runs."""
    db.execute(
        "DELETE FROM shares WHERE waiting = 0 AND day < current_date"
        " AND served <= (SELECT virtual_time FROM queues WHERE queues.engine = shares.engine)"
    )


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a tenant has in a queue."""

    tenant: str
    waiting: int
    load: float
    """Cost units that wait, each by its weight."""
    served: float

    def count_before(self, start: float) -> int:
        """About how many are claimed before that virtual time."""
        each = self.load / self.waiting
        return min(self.waiting, max(0, math.ceil((start - self.served) / each)))


def _list_others(db: Connection, engine: str, tenant: str) -> list[_Standing]:
    """The other tenants that wait, next first."""
    found = db.execute(
        "SELECT tenant, waiting, load, served FROM shares WHERE engine = ? AND waiting > 0 AND tenant <> ?"
        " ORDER BY served, tenant LIMIT ?",
        (engine, tenant, _MAX_TENANTS),
    )
    return [_Standing(*fields) for fields in found]


def _find_standing(db: Connection, engine: str, tenant: str) -> _Standing:
    """What the tenant has in the queue, once one more has entered."""
    found = db.execute(
        "SELECT waiting, load, served FROM shares WHERE tenant = ? AND engine = ?", (tenant, engine)
    ).fetchone()
    standing = _Standing(tenant, *(found or (0, 0.0, 0.0)))
    if standing.waiting:
        return standing
    now = db.execute("SELECT virtual_time FROM queues WHERE engine = ?", (engine,)).fetchone()
    return replace(standing, served=max(standing.served, now[0]))


def _find_share(db: Connection, joining: Joining) -> float:
    if joining.share is not None:
        return joining.share
    query = "SELECT cost / weight FROM generations WHERE id = ?"
    return float(db.execute(query, (joining.generation_id,)).fetchone()[0])


def _list_waiting(
    db: Connection, engine: str, tenant: str, limit: int
) -> Iterator[tuple[str, float]]:
    """Id and cost by weight of the tenant's oldest in the queue."""
    return db.execute(
        f"SELECT id, cost / weight FROM generations WHERE {rows.WAITING} AND engine = ? AND caller = ?"
        f" ORDER BY {oldest_first(db)} LIMIT ?",
        (engine, tenant, limit),
    )


def _merge(
    heads: Iterable[tuple[float, str]],
    queues: Mapping[str, Iterator[tuple[str, float]]],
    limit: int,
) -> list[str]:
    """The ids that are claimed first, at most so many; `heads` are the tenants with their virtual times."""
    heap = list(heads)
    heapify(heap)
    ids: list[str] = []
    while heap and len(ids) < limit:
        served, tenant = heappop(heap)
        if (first := next(queues[tenant], None)) is not None:
            generation_id, share = first
            ids.append(generation_id)
            heappush(heap, (served + share, tenant))
    return ids
