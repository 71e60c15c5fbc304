"""Reads what one tenant has, for its quotas; all in a transaction of `Database`."""

from __future__ import annotations

from atelier.v1.generation_pb2 import AttemptOutcome, Generation
from atelier_server.clock import current_timestamp, steady_time
from atelier_server.store.quotas import MAX_RETRY_SECONDS, Allowance, Usage
from atelier_server.store.records import Record
from atelier_server.store.sql.database import Connection

_DAY_SECONDS = 86_400.0


def find_usage(db: Connection, tenant: str, allowance: Allowance) -> Usage:
    """What the tenant has, as far as the allowance limits it."""
    waiting, cost, used, spent = db.execute(
        "SELECT coalesce(sum(waiting), 0), coalesce(sum(cost), 0),"
        " coalesce(sum(CASE WHEN day = current_date THEN used ELSE 0 END), 0),"
        " coalesce(sum(CASE WHEN day = current_date THEN spent ELSE 0 END), 0)"
        " FROM shares WHERE tenant = ?",
        (tenant,),
    ).fetchone()
    return Usage(
        waiting=int(waiting),
        running=0 if allowance.max_unfinished is None else _count_running(db, tenant),
        waiting_cost=cost,
        used_today=used,
        spent_today=spent,
        stored_bytes=0 if allowance.max_stored_bytes is None else _count_bytes(db, tenant),
        seconds_to_midnight=_DAY_SECONDS - current_timestamp().seconds % _DAY_SECONDS,
        seconds_to_expiry=0.0 if allowance.max_stored_bytes is None else _find_expiry(db, tenant),
    )


def charge_ended(db: Connection, record: Record) -> None:
    """Count the cost units of a generation that leaves the queue of an engine which has worked on it before.

    They were taken off when it was given back, since the next claim would count them once more.
    """
    generation = record.generation
    if not _has_run(generation):
        return
    db.execute(
        "UPDATE shares SET used = CASE WHEN day = current_date THEN used ELSE 0 END"
        " + (SELECT cost FROM generations WHERE id = ?),"
        " spent = CASE WHEN day = current_date THEN spent ELSE 0 END, day = current_date"
        " WHERE tenant = ? AND engine = ?",
        (generation.id, record.caller, generation.engine),
    )


def _has_run(generation: Generation) -> bool:
    """Whether the engine that the generation waits for has worked on it before, and gave it back."""
    outcomes = AttemptOutcome
    return any(
        attempt.outcome == outcomes.ATTEMPT_OUTCOME_ABANDONED
        or (attempt.outcome == outcomes.ATTEMPT_OUTCOME_RELEASED and attempt.HasField("start_time"))
        for attempt in generation.receipt.attempts
        if attempt.engine == generation.engine
    )


def _find_expiry(db: Connection, tenant: str) -> float:
    """Looks at what expires soon, of all tenants."""
    now = steady_time()
    found = db.execute(
        "SELECT expires FROM artifacts WHERE expires < ? AND caller = ? ORDER BY expires LIMIT 1",
        (now + MAX_RETRY_SECONDS, tenant),
    ).fetchone()
    return MAX_RETRY_SECONDS if found is None else float(found[0]) - now


def _count_running(db: Connection, tenant: str) -> int:
    """Among all that runs, which is little; the expression keeps a database from reading all that the tenant has."""
    found = db.execute(
        "SELECT count(*) FROM generations WHERE state = 2 AND caller || '' = ?",
        (tenant,),
    )
    return int(found.fetchone()[0])


def _count_bytes(db: Connection, tenant: str) -> int:
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
