"""In which order the generations of several tenants are claimed; all in a transaction of `Database`.

This is start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). For each engine a tenant has a virtual time,
`shares.served`: the cost units that were claimed for it, each divided by its weight. Of the tenants with work in the
queue, that with the least is next, and of its generations the first by priority and age (`waiting.list_own`). Who had
nothing there joins at `queues.virtual_time`, that of the tenant claimed from last, unless it is ahead of that: unused
shares are not saved up. The triggers of schema.sql keep these numbers, so every way into a queue and out of it counts;
what is given back to the queue that it was claimed from is counted off again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from atelier_server.store.quotas import Share
from atelier_server.store.sql import waiting
from atelier_server.store.sql.database import Connection
from atelier_server.store.sql.waiting import Place

_MAX_TENANTS = 100  # that an estimate looks at; those who are served later are counted in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A generation that is about to enter a queue."""

    generation_id: str
    """Its id."""
    tenant: str
    """Whose it is."""
    batch: bool
    """Whether it has the priority BATCH."""
    share: Share | None = None
    """What it takes; None if it is stored already."""
    given_back: bool = False
    """Whether it was claimed from this queue."""


def list_next(db: Connection, engine: str, limit: int) -> list[str]:
    """Ids of so many generations in the engine's queue, in the order in which they will be claimed."""
    heads = db.execute(
        "SELECT served, tenant FROM shares WHERE engine = ? AND waiting > 0 ORDER BY served, tenant LIMIT ?",
        (engine, limit),
    ).fetchall()
    queues = {tenant: waiting.list_own(db, engine, tenant, limit) for _, tenant in heads}
    return _merge(heads, queues, limit)


def count_ahead(db: Connection, engine: str, joining: Joining) -> int:
    """How many will be claimed from the engine's queue before the one that joins it.

    Exact below EXACT_POSITIONS, if nothing else comes. From there on an upper bound while one tenant waits alone, with
    one priority; else an estimate by the shares of several, and without batch work ahead of what is interactive.
    """
    place = _find_place(db, joining)
    own, others = _list_standings(db, engine, joining.tenant)
    served = own.served - place.share if joining.given_back else own.served
    limit = waiting.EXACT_POSITIONS
    heads = [(served, joining.tenant), *((other.served, other.tenant) for other in others[:limit])]
    queues = {tenant: waiting.list_own(db, engine, tenant, limit) for _, tenant in heads[1:]}
    queues[joining.tenant] = waiting.list_own(db, engine, joining.tenant, limit, place)
    order = _merge(heads, queues, limit)
    if joining.generation_id in order:
        return order.index(joining.generation_id)
    before = own.waiting
    if not joining.batch:
        before = waiting.count_interactive(db, engine, joining.tenant, own.waiting)
    start = served + (own.load * before / own.waiting if own.waiting else 0.0)
    ahead = before + sum(other.count_before(start) for other in others)
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


def _list_standings(db: Connection, engine: str, tenant: str) -> tuple[_Standing, list[_Standing]]:
    """What the tenant has in the queue, once one more has entered, and the other tenants that wait, next first."""
    found = db.execute(
        "SELECT tenant, waiting, load, served FROM (SELECT * FROM shares WHERE engine = ?1 AND waiting > 0"
        " AND tenant <> ?2 ORDER BY served, tenant LIMIT ?3) AS others"
        " UNION ALL SELECT tenant, waiting, load, served FROM shares WHERE tenant = ?2 AND engine = ?1",
        (engine, tenant, _MAX_TENANTS),
    )
    standings = {each.tenant: each for each in (_Standing(*fields) for fields in found)}
    own = standings.pop(tenant, _Standing(tenant, 0, 0.0, 0.0))
    others = sorted(standings.values(), key=lambda each: (each.served, each.tenant))
    if own.waiting:
        return own, others
    now = db.execute("SELECT virtual_time FROM queues WHERE engine = ?", (engine,)).fetchone()
    return (own if now is None else replace(own, served=max(own.served, now[0]))), others


def _find_place(db: Connection, joining: Joining) -> Place:
    share = joining.share
    if share is None:
        query = "SELECT cost, weight FROM generations WHERE id = ?"
        cost, weight = db.execute(query, (joining.generation_id,)).fetchone()
        share = Share(cost=cost, weight=weight)
    return Place(
        generation_id=joining.generation_id,
        batch=joining.batch,
        cost=share.cost,
        weight=share.weight,
    )


def _merge(
    heads: Iterable[tuple[float, str]],
    queues: Mapping[str, Sequence[Place]],
    limit: int,
) -> list[str]:
    """The ids that are claimed first, at most so many; `heads` are the tenants with their virtual times."""
    heap = list(heads)
    heapify(heap)
    left = {tenant: iter(places) for tenant, places in queues.items()}
    ids: list[str] = []
    while heap and len(ids) < limit:
        served, tenant = heappop(heap)
        if (first := next(left[tenant], None)) is not None:
            ids.append(first.generation_id)
            heappush(heap, (served + first.share, tenant))
    return ids
