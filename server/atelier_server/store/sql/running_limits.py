"""Which tenants have as many generations running as they may, so that claims pass over them; all in a transaction."""

from __future__ import annotations

from collections import Counter

from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sql import rows
from atelier_server.store.sql.database import Connection

# ruff: noqa: S608 (only conditions of `rows` and question marks are put into statements)


def list_full(db: Connection, limits: RunningLimits | None) -> list[str]:
    """The tenants at their limits; looks at all that runs, which is little."""
    if limits is None:
        return []
    # The fence keeps a database from reading an index of all generations instead, which has everything else.
    found = db.execute(f"SELECT caller, fence FROM generations WHERE {rows.RUNNING}")
    running = Counter(tenant for tenant, _ in found)
    return [tenant for tenant, count in running.items() if _is_reached(limits(tenant), count)]


def pass_over(db: Connection, engine: str, full: list[str], tenant: str) -> None:
    """Have those who are passed over for the tenant save up nothing: they go on from its virtual time."""
    if full:
        db.execute(
            "UPDATE shares SET served = next.served"
            " FROM (SELECT engine, served FROM shares WHERE tenant = ? AND engine = ?) AS next"
            " WHERE shares.engine = next.engine AND waiting > 0 AND shares.served < next.served"
            f" AND tenant IN ({', '.join('?' * len(full))})",
            (tenant, engine, *full),
        )


def _is_reached(limit: int | None, running: int) -> bool:
    return limit is not None and running >= limit
