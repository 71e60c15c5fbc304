"""The embedded store passes the suite that every store passes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import CancelCause, State
from atelier_server.store.protocol import CancelResult, Event, Query, Store
from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sql import (
    artifact_rows,
    event_rows,
    expiry,
    history,
    listing,
    operations,
    rows,
    waiting,
)
from atelier_server.store.sqlite import space
from atelier_server.store.sqlite.checkpoints import Checkpoints
from atelier_server.store.sqlite.database import Database, configure
from atelier_server.store.sqlite.migrations import migrate
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.all_conformance import AllConformance
from tests.store.conformance import Opener, submission, succeeded


class TestSqliteStore(AllConformance):
    """See StoreConformance."""

    @pytest.fixture
    async def opener(self, tmp_path: Path) -> AsyncIterator[Opener]:
        """Opens the same file each time."""
        opened: list[SqliteStore] = []

        async def open_store(
            *,
            max_attempts: int = 3,
            retention_seconds: float = 60,
            running_limits: RunningLimits | None = None,
        ) -> Store:
            store = await SqliteStore.open(
                tmp_path / "atelier.db",
                max_attempts=max_attempts,
                retention_seconds=retention_seconds,
                running_limits=running_limits,
            )
            opened.append(store)
            return store

        yield open_store
        with suppress(sqlite3.ProgrammingError):  # closed by the test itself
            await opened[-1].close()


async def test_a_failed_write_undoes_itself_and_nothing_else(tmp_path: Path) -> None:
    """In a group that shares a commit, only the job that raises is rolled back."""

    def prepare(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)")

    database = Database(tmp_path / "t.db", prepare=prepare)

    async def insert(*values: int) -> None:
        await database.run(
            lambda db: db.executemany("INSERT INTO t VALUES (?)", [(value,) for value in values])
        )

    outcomes = await asyncio.gather(insert(1), insert(2, 1), insert(3), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        sqlite3.IntegrityError,
        type(None),
    ]
    found = await database.run(lambda db: db.execute("SELECT x FROM t ORDER BY x").fetchall())
    assert found == [(1,), (3,)]
    await database.close()


async def test_who_is_cancelled_during_a_write_is_cancelled_once_it_is_decided(
    tmp_path: Path,
) -> None:
    """The write is not undone, and its error is nobody's loss."""
    database = Database(tmp_path / "some.db", prepare=lambda _: None)
    begun, go_on = threading.Event(), threading.Event()

    def write(db: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)
        db.execute("CREATE TABLE written (id)")

    task = asyncio.create_task(database.run(write))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.read(lambda db: db.execute("SELECT count(*) FROM written").fetchone())
    await database.close()


def test_the_log_begins_anew_while_writes_go_on(tmp_path: Path) -> None:
    """It is copied beside them, and by the writer alone to its end; no commit copies it."""
    path, log = tmp_path / "some.db", tmp_path / "some.db-wal"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        configure(writer, "NORMAL")
        writer.execute("CREATE TABLE written (data)")
        checkpoints = Checkpoints(path, writer)
        assert writer.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
        salt = first_salt = _read_salt(log)
        for _ in range(20_000):
            writer.execute("INSERT INTO written VALUES (zeroblob(4096))")
            checkpoints.count(1)
            salt = _read_salt(log)
            if salt != first_salt:
                break
        checkpoints.close()
    assert salt != first_salt


def _read_salt(log: Path) -> bytes:
    """That of the log's header; it is new each time the log begins."""
    with log.open("rb") as file:
        return file.read(24)[16:]


def test_no_statement_reads_more_rows_than_it_needs(tmp_path: Path) -> None:
    """Each searches an index, so none becomes slower as queue and history grow."""
    statements: list[str] = []
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as db:
        migrate(db)
        db.set_trace_callback(statements.append)
        _use_everything(db)
        db.set_trace_callback(None)
        found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name for (name,) in found}
        for statement in statements:
            if statement.startswith("--"):  # of a trigger or a foreign key
                continue
            plan = [detail for *_, detail in db.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not any(_reads_all(step, tables) for step in plan), (
                statement,
                plan,
            )
    assert len(statements) > 30


def _reads_all(step: str, tables: set[str]) -> bool:
    """Whether a step of a plan reads a whole table, or sorts; what a subquery has found may be read in full."""
    return step.startswith("USE TEMP") or (step.startswith("SCAN") and step.split()[1] in tables)


def _use_everything(db: sqlite3.Connection) -> None:
    """Run every operation of the store."""
    for _ in range(3):
        operations.submit(db, submission(inputs=("upload",), deadline=1.0))
    rows.add_artifacts(db, "ada", [Artifact(id="upload")])
    claimed = operations.claim(db, "sketch", lambda _: True)
    assert claimed is not None
    claim, _ = claimed
    operations.save_task(db, claim, claim.generation, b"task")
    operations.log(db, claim, [Event(step=1)])
    operations.save_remote_handle(db, claim, "job")
    release = operations.Release(generation=claim.generation, task=b"other")
    operations.requeue(db, claim, release, 1.0)
    claimed = operations.claim(db, "sketch", lambda _: True)
    assert claimed is not None
    claim, _ = claimed
    cause = CancelCause.CANCEL_CAUSE_REQUESTED
    cancelled, _ = operations.cancel(db, "ada", claim.generation.id, cause, 1.0)
    assert cancelled is CancelResult.REQUESTED
    operations.finish(db, claim, succeeded(claim, "image"), [Event(), Event()], 1.0)
    event_rows.events_after(db, claim.generation.id, 0)
    rows.find(db, claim.generation.id)
    for state in ([], [State.STATE_QUEUED]):
        listing.search(db, Query(caller="ada", limit=5, engine="sketch", before="~", states=state))
        listing.search(db, Query(caller="ada", limit=5, states=state))
    waiting.count(db, "sketch")
    history.spent_today(db, "sketch")
    artifact_rows.find_artifact(db, "ada", "image")
    artifact_rows.find_unknown_artifacts(db, ["image"])
    artifact_rows.find_known_generations(db, [claim.generation.id])
    artifact_rows.is_empty(db)
    artifact_rows.delete_artifacts(db, ["image"])
    history.greatest_id(db)
    history.count_waiting_by_engine(db)
    expiry.fail_overdue(db, 2.0, 1.0)
    expiry.delete_generations(db, time.time() + 10)
    expiry.delete_artifacts(db, time.time() + 10)
    space.shrink(db)
