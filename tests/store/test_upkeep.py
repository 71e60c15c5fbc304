"""Reads and writes of the embedded store leave each other room; its files grow and shrink with what they hold."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.store.protocol import Event, Query
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import submission, succeeded, sweep

MIB = 2**20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh store, whose generations expire at once."""
    store = await SqliteStore.open(tmp_path / "atelier.db", max_attempts=3, retention_seconds=0)
    yield store
    await store.close()


async def add_ended(store: SqliteStore, count: int, *, task: bytes = b"") -> list[str]:
    """So many generations that have ended; returns their ids."""
    for _ in range(count):
        await store.submit(submission(task=task, queue_limit=count))
    claims = [await store.claim("sketch") for _ in range(count)]
    ended = [store.finish(claim, succeeded(claim), Event()) for claim in claims]
    return [generation.id for generation in await asyncio.gather(*ended)]


async def test_no_read_waits_for_a_write(store: SqliteStore) -> None:
    """While a write lasts, what was committed before can be read in every way."""
    accepted = (await store.submit(submission())).generation
    with blocked(store) as writing:
        found = await asyncio.wait_for(store.get("ada", accepted.id), 60)
        assert found == accepted
        page = await asyncio.wait_for(store.list(Query(caller="ada", limit=5)), 60)
        assert page.generations == [accepted]
        assert await asyncio.wait_for(store.queue_depth("sketch"), 60) == 1
        async with aclosing(store.watch(accepted.id, 0)) as events:
            assert (await asyncio.wait_for(anext(events), 60)).sequence == 1
        assert not writing.done()


@contextmanager
def blocked(store: SqliteStore) -> Iterator[asyncio.Future[None]]:
    """A write that lasts as long as the context."""
    begun, end = threading.Event(), threading.Event()

    def write(db: sqlite3.Connection) -> None:
        db.execute("UPDATE queues SET waiting = waiting WHERE engine = 'sketch'")
        begun.set()
        end.wait()

    writing = asyncio.ensure_future(store._database.run(write))
    try:
        yield writing
    finally:
        end.set()


async def count_bytes(store: SqliteStore) -> int:
    """Size of the database, without its log."""
    pages = await store._database.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    return int(pages) * 4096


async def test_expiry_leaves_room_for_other_calls(store: SqliteStore) -> None:
    """It deletes a few generations in each transaction; between two of them others write."""
    ids = await add_ended(store, 200)
    steps = 0
    async with aclosing(store.sweep(time.time() + 10)) as deleted:
        left = len(ids)
        async for _ in deleted:
            steps += 1
            await store.submit(submission())
            page = Query(caller="ada", limit=500, states=[State.STATE_SUCCEEDED])
            before, left = left, len((await store.list(page)).generations)
            assert before - left <= 25
    assert left == 0
    assert await store.queue_depth("sketch") == steps >= 8


async def test_expiry_takes_few_generations_with_long_logs_at_a_time(store: SqliteStore) -> None:
    """What counts is the number of rows: a transaction deletes two logs of 150 events, not twenty-five."""
    for _ in range(6):
        await store.submit(submission())
        claim = await store.claim("sketch")
        await store.log(claim, [Event(step=step) for step in range(150)])
        await store.finish(claim, succeeded(claim), Event())
    async with aclosing(store.sweep(time.time() + 10)) as deleted:
        await anext(deleted)
        assert len((await store.list(Query(caller="ada", limit=500))).generations) == 4


async def test_what_fails_in_the_queue_does_so_in_small_steps(store: SqliteStore) -> None:
    """A hundred deadlines that have passed are not one transaction, and each generation fails."""
    now = time.time()
    for _ in range(100):
        await store.submit(submission(deadline=now))
    async with aclosing(store.sweep(now + 1)) as deleted:
        await anext(deleted)
        assert await store.queue_depth("sketch") == 80
        async for _ in deleted:
            pass
    assert await store.queue_depth("sketch") == 0


async def test_a_file_shrinks_when_what_it_holds_has_expired(store: SqliteStore) -> None:
    """Most of 12 MiB goes back to the file system; what remains is intact."""
    await add_ended(store, 48, task=bytes(MIB // 4))
    kept = (await store.submit(submission(request_id="kept"))).generation
    assert await count_bytes(store) > 12 * MIB
    await sweep(store, time.time() + 10)
    await store.submit(submission())
    assert await store.get("ada", kept.id) == kept
    assert await count_bytes(store) < 6 * MIB
    check = await store._database.read(lambda db: db.execute("PRAGMA integrity_check").fetchall())
    assert check == [("ok",)]


async def test_the_log_stays_bounded_while_reads_overlap(
    store: SqliteStore, tmp_path: Path
) -> None:
    """Reads that follow each other without a pause keep SQLite from using its log again; it is emptied all the same."""
    over = threading.Event()

    def read(db: sqlite3.Connection) -> None:
        db.execute("SELECT count(*) FROM events WHERE generation_id > ''").fetchone()
        over.wait(0.15)

    async def keep_reading() -> None:
        while not over.is_set():
            await store._database.read(read)

    reading = [asyncio.create_task(keep_reading()) for _ in range(2)]
    log, size = tmp_path / "atelier.db-wal", 0
    while log.stat().st_size >= size:
        size = log.stat().st_size
        assert size < 400 * MIB
        await store.submit(submission(task=bytes(MIB), queue_limit=1000))
    over.set()
    await asyncio.gather(*reading)


async def test_a_log_that_has_grown_is_cut(store: SqliteStore, tmp_path: Path) -> None:
    """A read that lasts makes the log grow; when it has ended the file becomes small again."""
    begun, end = threading.Event(), threading.Event()

    def read(db: sqlite3.Connection) -> None:
        db.execute("SELECT count(*) FROM events WHERE generation_id > ''").fetchone()
        begun.set()
        end.wait()

    reading = asyncio.create_task(store._database.read(read))
    await asyncio.to_thread(begun.wait)
    log = tmp_path / "atelier.db-wal"
    while log.stat().st_size <= 40 * MIB:
        await store.submit(submission(task=bytes(MIB), queue_limit=1000))
    end.set()
    await reading
    async with asyncio.timeout(300):  # a busy machine is slow
        while log.stat().st_size > 33 * MIB:
            await store.submit(submission(queue_limit=10**6))
