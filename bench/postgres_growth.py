"""What it takes to accept, claim and end a generation in PostgreSQL, with an empty database and with a full one.

The full one has 100,000 generations in the queue beside 1,000,000 that have ended. It is filled directly, in minutes.
Figures are lower quartiles, which other work on the machine moves less than medians.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import psycopg

from bench.figures import Figure, quantile
from bench.filled_database import make_submission
from bench.stores import finish, open_postgres, serve_postgres

_QUEUED = 100_000
_ENDED = 1_000_000
_CALLS = 200
_MAX_RATIO = 1.5
_COPY = (
    "INSERT INTO generations (id, caller, request_id, digest, engine, state, attempt, fence, sequence, expires,"
    " request, record, task) SELECT copy.id, caller, copy.id, digest, engine, CASE WHEN ended THEN 3 ELSE 1 END,"
    " 0, 0, 1, CASE WHEN ended THEN 4e9 + number ELSE NULL END, request,"
    " overlay(record PLACING copy.id::bytea FROM position(first.id::bytea IN record)), task"
    " FROM (SELECT * FROM generations LIMIT 1) AS first, generate_series(1, %s) AS number,"
    " LATERAL (SELECT left(first.id, -8) || lpad(number::text, 8, '0') AS id, number <= %s AS ended) AS copy"
)
_COUNT = (
    "UPDATE queues SET waiting = waiting + %s",
    "UPDATE shares SET waiting = waiting + %s, cost = cost + %s, load = load + %s",
)


async def measure() -> list[Figure]:
    """Each figure with both databases, and the ratio."""
    async with serve_postgres() as server:
        empty = await _measure(server.make_database())
        full_dsn = server.make_database()
        await _prepare(full_dsn)
        await asyncio.to_thread(_fill, full_dsn)
        full = await _measure(full_dsn)
    return [
        figure
        for name in empty
        for figure in (
            Figure(name=f"{name}, empty", value=empty[name] * 1e3, unit="ms"),
            Figure(name=f"{name}, full", value=full[name] * 1e3, unit="ms"),
            Figure(
                name=name,
                value=full[name] / empty[name],
                unit="×",
                bound="at most",
                target=_MAX_RATIO,
            ),
        )
    ]


async def _prepare(dsn: str) -> None:
    """Make the tables, and a row to copy."""
    store = await open_postgres(dsn)
    await store.submit(make_submission())
    await store.close()


def _fill(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE generations DISABLE TRIGGER USER")
        connection.execute(_COPY, (_ENDED + _QUEUED, _ENDED))
        connection.execute("ALTER TABLE generations ENABLE TRIGGER USER")
        for statement in _COUNT:
            connection.execute(statement, [_QUEUED] * statement.count("%s"))
        connection.execute("VACUUM ANALYZE")


async def _measure(dsn: str) -> dict[str, float]:
    """Seconds of each call."""
    store = await open_postgres(dsn)
    claims = []

    async def claim() -> None:
        claims.append(await store.claim("sketch"))

    try:
        return {
            "submit": await _time(lambda: store.submit(make_submission())),
            "claim": await _time(claim),
            "finish": await _time(lambda: finish(store, claims.pop())),
        }
    finally:
        await store.close()


async def _time(call: Callable[[], Awaitable[object]]) -> float:
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - start)
    return quantile(seconds, 0.25)
