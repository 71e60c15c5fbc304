"""Reads what one tenant has, for its quotas; all in a transaction of `Database`."""

from __future__ import annotations

import sqlite3

from atelier_server.store.quotas import Allowance, Usage


def find_usage(db: sqlite3.Connection, tenant: str, allowance: Allowance) -> Usage:
    """What the tenant has, as far as the allowance limits it."""
    waiting, cost, used, spent, seconds = db.execute(
        "SELECT coalesce(sum(waiting), 0), coalesce(sum(cost), 0),"
        " coalesce(sum(iif(day = date('now'), used, 0)), 0), coalesce(sum(iif(day = date('now'), spent, 0)), 0),"
        " strftime('%s', 'now', 'start of day', '+1 day') - strftime('%s', 'now')"
        " FROM shares WHERE tenant = ?",
        (tenant,),
    ).fetchone()
    return Usage(
        waiting=waiting,
        running=0 if allowance.max_unfinished is None else _count_running(db, tenant),
        waiting_cost=cost,
        used_today=used,
        spent_today=spent,
        stored_bytes=0 if allowance.max_stored_bytes is None else _count_bytes(db, tenant),
        seconds_to_midnight=float(seconds),
    )


def _count_running(db: sqlite3.Connection, tenant: str) -> int:
    """Among all that runs, which is little."""
    found = db.execute(
        "SELECT count(*) FROM generations INDEXED BY running WHERE state = 2 AND caller = ?",
        (tenant,),
    )
    return int(found.fetchone()[0])


def _count_bytes(db: sqlite3.Connection, tenant: str) -> int:
    """A number that the file keeps from the first time on that it is asked for."""
    kept = "SELECT bytes FROM stored WHERE tenant = ?"
    found = db.execute(kept, (tenant,)).fetchone()
    if found is None:
        db.execute(
            "INSERT INTO stored (tenant, bytes)"
            " SELECT ?1, coalesce(sum(size), 0) FROM artifacts WHERE caller = ?1",
            (tenant,),
        )
        found = db.execute(kept, (tenant,)).fetchone()
    return int(found[0])
