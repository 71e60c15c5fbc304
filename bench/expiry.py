"""How long an expiry of 100,000 generations with artifacts holds up other calls; at the store, in this process."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import aclosing, closing
from functools import partial
from pathlib import Path

from atelier_server.store.sql import expiry
from atelier_server.store.sqlite import space
from atelier_server.store.sqlite.database import configure
from atelier_server.store.sqlite.store import SqliteStore
from bench.figures import Figure, quantile
from bench.filled_database import fill, make_submission

_EXPIRED = 100_000
_EXPIRED_AT_ONCE = 10_000


async def measure() -> list[Figure]:
    """The longest that another call takes while 100,000 generations with their artifacts are deleted."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        path = Path(directory) / "atelier.db"
        await asyncio.to_thread(fill, path, _EXPIRED, ended=True)
        before = path.stat().st_size
        store = await SqliteStore.open(path, retention_seconds=3600, max_attempts=3)
        start = time.perf_counter()
        expiring = asyncio.create_task(_expire(store))
        waits = []
        while not expiring.done():
            begun = time.perf_counter()
            await store.submit(make_submission())
            waits.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)
        seconds = time.perf_counter() - start
        await store.close()
        after = path.stat().st_size
    return [
        Figure(
            name=f"longest submit while {_EXPIRED:,} expire",
            value=max(waits) * 1e3,
            unit="ms",
            bound="at most",
            target=50,
        ),
        Figure(name="median submit meanwhile", value=quantile(waits, 0.5) * 1e3, unit="ms"),
        Figure(name="p99 submit meanwhile", value=quantile(waits, 0.99) * 1e3, unit="ms"),
        Figure(
            name="longest transaction of an expiry, CPU time",
            value=await asyncio.to_thread(_time_steps) * 1e3,
            unit="ms",
            bound="at most",
            target=10,
        ),
        Figure(name=f"expiry of {_EXPIRED:,}", value=seconds, unit="s"),
        Figure(name="file before", value=before / 1e6, unit="MB"),
        Figure(name="file after", value=after / 1e6, unit="MB"),
    ]


def _time_steps() -> float:
    """CPU time of the longest transaction while generations expire: what else the machine does changes little of it."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as directory:
        path, longest = Path(directory) / "atelier.db", 0.0
        fill(path, _EXPIRED_AT_ONCE, ended=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            configure(db, "NORMAL")
            later = time.time() + 7200
            for step in (
                partial(expiry.delete_generations, now=later),
                partial(expiry.delete_artifacts, now=later),
                space.shrink,
            ):
                more = True
                while more:
                    start = time.thread_time()
                    db.execute("BEGIN IMMEDIATE")
                    more = bool(step(db))
                    db.execute("COMMIT")
                    longest = max(longest, time.thread_time() - start)
    return longest


async def _expire(store: SqliteStore) -> None:
    async with aclosing(store.sweep(time.time() + 7200)) as steps:
        async for _ in steps:
            pass
