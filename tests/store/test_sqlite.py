"""The embedded store passes the suite that every store passes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from atelier_server.store.protocol import Store
from atelier_server.store.sqlite.database import Database
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import Opener, StoreConformance


class TestSqliteStore(StoreConformance):
    """See StoreConformance."""

    @pytest.fixture
    async def opener(self, tmp_path: Path) -> AsyncIterator[Opener]:
        """Opens the same file each time."""
        opened: list[SqliteStore] = []

        async def open_store(*, max_attempts: int = 3, retention_seconds: float = 60) -> Store:
            store = await SqliteStore.open(
                tmp_path / "atelier.db",
                max_attempts=max_attempts,
                retention_seconds=retention_seconds,
            )
            opened.append(store)
            return store

        yield open_store
        with suppress(sqlite3.ProgrammingError):  # closed by the test itself
            await opened[-1].close()


async def test_a_failed_write_undoes_itself_and_nothing_else(tmp_path: Path) -> None:
    """In a group that shares a commit, the one that raises is rolled back alone."""

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
