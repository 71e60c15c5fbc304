"""Stores generations in one SQLite file, for one process."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from functools import partial
from pathlib import Path

from atelier.v1.generation_pb2 import CancelCause
from atelier_server import ids
from atelier_server.errors import DatabaseUnusableError, StorageError
from atelier_server.store.events import WaitingWorkers
from atelier_server.store.isolation import Isolation
from atelier_server.store.protocol import Event
from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sql import history, recovery
from atelier_server.store.sql.sql_store import SqlStore
from atelier_server.store.sqlite import space
from atelier_server.store.sqlite.database import CommitCount, Database
from atelier_server.store.sqlite.migrations import migrate


class SqliteStore(SqlStore):
    """See protocol.Store. Only one process may have a file open."""

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        retention_seconds: float,
        max_attempts: int,
        synchronous: str = "NORMAL",
        local_engines: Collection[str] = (),
        free_engines: Collection[str] = (),
        running_limits: RunningLimits | None = None,
    ) -> SqliteStore:
        """Open, migrate or create the file, and requeue the generations that a process that died was running.

        What may have caused its death runs alone from now on, see `store.isolation`. One that did so in
        `max_attempts` attempts, alone at last, has FAILED with the reason POISONED.
        The work of `local_engines` ended with that process; jobs that others started may go on at a remote service.
        Those of `free_engines` cost nothing. No more run at a time than `running_limits` says.

        Raises:
            DatabaseUnusableError: the file can't be opened, is damaged, or was written by a newer version.
        """
        try:
            commits = CommitCount(path.with_name(f"{path.name}-commits"))
            database = Database(path, prepare=migrate, synchronous=synchronous, commits=commits)
            store = cls(database, retention_seconds=retention_seconds)
            store._free_engines = free_engines
            store._limits = running_limits
            recovered = await store._recover(max_attempts, local_engines)
            queued, store._isolation, store._ends_at_start = recovered
            ids.continue_after(await database.read(history.greatest_id))
        except (sqlite3.Error, OSError, DatabaseUnusableError, StorageError) as error:
            msg = (
                f"cannot use {path} ({error}); restore it, or move it away with its -wal and -shm files to start "
                "with an empty one, which cannot read the artifacts of the old one"
            )
            raise DatabaseUnusableError(msg) from error
        for engine, count in queued.items():
            store._workers[engine] = WaitingWorkers(store._release_in_background, queued=count)
        return store

    async def _recover(
        self, max_attempts: int, local_engines: Collection[str]
    ) -> tuple[dict[str, int], Isolation | None, list[Event]]:
        recover = partial(
            recovery.recover,
            retention_seconds=self._retention_seconds,
            max_attempts=max_attempts,
            local_engines=local_engines,
            free_engines=self._free_engines,
        )
        try:
            self._cancelled_jobs = await self._database.run(history.list_cancelled_jobs)
            return await self._database.run(recover)
        except BaseException:
            await self.close()
            raise

    is_shared = False
    """See Attendance.is_shared. The server knows its own calls itself."""

    async def attend(self, generation_id: str, *, started: bool, again: bool = False) -> bool:  # noqa: ARG002 (of the interface)
        """See Attendance.attend."""
        return True

    async def leave(self, generation_id: str) -> bool:  # noqa: ARG002 (of the interface)
        """See Attendance.leave."""
        return False

    async def cancel_abandoned(
        self,
        caller: str,
        generation_id: str,
        *,
        any_call: bool,  # noqa: ARG002 (of the interface)
        still_followed: bool,  # noqa: ARG002 (of the interface)
    ) -> bool:
        """See Attendance.cancel_abandoned."""
        await self.cancel(caller, generation_id, CancelCause.CANCEL_CAUSE_CALLERS_LOST)
        return True

    def _rewrite(self, db: sqlite3.Connection) -> None:
        """Write the page that has the version."""
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {version}")

    def _shrink(self, db: sqlite3.Connection) -> bool:
        """Give pages back to the file system."""
        return space.shrink(db)
