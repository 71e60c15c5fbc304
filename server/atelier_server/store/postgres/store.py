"""Stores generations in a PostgreSQL database, which several processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any

import psycopg

from atelier.v1.generation_pb2 import State
from atelier_server import ids
from atelier_server.errors import DatabaseUnusableError, StorageError
from atelier_server.store.isolation import Isolation
from atelier_server.store.postgres import processes
from atelier_server.store.postgres.connections import PostgresConnection, connect
from atelier_server.store.postgres.database import PostgresDatabase
from atelier_server.store.postgres.migrations import migrate
from atelier_server.store.protocol import ENDED, Claim, Event
from atelier_server.store.sql import history, recovery, shares
from atelier_server.store.sql.sql_store import SqlStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRules:
    """How work is taken over of which a process died, see `SqliteStore.open`."""

    max_attempts: int
    local_engines: Collection[str] = ()
    free_engines: Collection[str] = ()


@dataclass(slots=True)
class _Taken:
    """What a takeover has changed."""

    queued: dict[str, int] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    cancelled_jobs: list[Claim] = field(default_factory=list)


class PostgresStore(SqlStore):
    """See protocol.Store. Several processes may use one database."""

    def __init__(
        self,
        database: PostgresDatabase,
        lease: processes.Lease,
        *,
        retention_seconds: float,
        rules: RecoveryRules,
    ) -> None:
        """Use `open` instead, which also makes the tables."""
        super().__init__(database, retention_seconds=retention_seconds)
        self._lease = lease
        self._rules = rules
        self._free_engines = rules.free_engines
        self._running: set[str] = set()

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        retention_seconds: float,
        lease_seconds: float,
        rules: RecoveryRules,
    ) -> PostgresStore:
        """Open the database, make or migrate its tables, and take over the work of processes whose leases have ended.

        Raises:
            DatabaseUnusableError: it can't be reached, is of a newer version, or has tables of something else.
        """
        try:
            process = await asyncio.to_thread(_prepare, dsn, lease_seconds)
            store = cls(
                PostgresDatabase(dsn, process),
                processes.Lease(dsn, process, lease_seconds),
                retention_seconds=retention_seconds,
                rules=rules,
            )
            try:
                await store._open()
            except BaseException:
                await store.close()
                raise
        except (psycopg.Error, OSError, DatabaseUnusableError, StorageError) as error:
            msg = f"cannot use the database of store.dsn ({_describe(error)})"
            raise DatabaseUnusableError(msg) from error
        return store

    async def _open(self) -> None:
        taken = await self._database.run(self._take_over)
        self._isolate(taken)
        self._ends_at_start = [event for event in taken.events if event.state in ENDED]
        self._cancelled_jobs = taken.cancelled_jobs
        ids.continue_after(await self._database.read(history.greatest_id))
        for engine, count in taken.queued.items():
            self._wake_workers(engine, count)

    async def close(self) -> None:
        """See Store.close. Other processes may take over at once."""
        await asyncio.gather(*self._releases)
        await self._lease.stop()
        try:
            await self._database.run(lambda db: processes.end_lease(db, self._lease.process))
        except StorageError:  # they take over when the lease has ended
            pass
        finally:
            await self._database.close()

    async def sweep(self, now: float) -> AsyncGenerator[Sequence[str]]:
        """See Store.sweep. First takes over the work of processes whose leases have ended."""
        if await self._database.read(processes.is_any_dead):
            await self._database.run(self._take_over, on_commit=self._continue)
        async with aclosing(super().sweep(now)) as steps:
            async for deleted in steps:
                yield deleted

    def _continue(self, taken: _Taken) -> None:
        """Tell watchers and workers of this process what was taken over."""
        self._isolate(taken)
        self._cancelled_jobs += taken.cancelled_jobs
        self._publish(taken.events)
        for engine, count in taken.queued.items():
            self._wake_workers(engine, count)

    def _isolate(self, taken: _Taken) -> None:
        """Have what may have caused the death of another process run alone in this one."""
        if self._isolation is not None:
            self._isolation.add(taken.suspects, taken.beside)
        elif taken.suspects:
            self._isolation = Isolation(taken.suspects, taken.beside, self._running)

    def _publish(self, events: Sequence[Event]) -> None:
        """Tell watchers and observers, and learn what runs in this process."""
        for event in events:
            if event.state == State.STATE_RUNNING:
                self._running.add(event.generation_id)
            else:
                self._running.discard(event.generation_id)
        super()._publish(events)

    def _take_over(self, db: PostgresConnection) -> _Taken:
        taken = _Taken()
        for running in processes.take_over(db).values():
            taken.cancelled_jobs += [
                stored.to_claim(record)
                for record, stored in running
                if record.cancel_cause and record.remote_handle
            ]
            taken.events += recovery.requeue_running(
                db,
                [record for record, _ in running],
                retention_seconds=self._retention_seconds,
                max_attempts=self._rules.max_attempts,
                local_engines=self._rules.local_engines,
                free_engines=self._rules.free_engines,
            )
        if processes.count(db) == 1:
            shares.forget_idle(db)
        taken.queued = history.count_waiting_by_engine(db)
        taken.suspects, taken.beside = recovery.find_suspects(db, self._rules.max_attempts)
        return taken

    def _rewrite(self, db: Any) -> None:  # noqa: ANN401 (see SqlStore)
        """Write the row that has the version."""
        db.execute("UPDATE schema_version SET version = version")


def _prepare(dsn: str, lease_seconds: float) -> int:
    """Bring the database up to date; the number of this process in it."""
    with closing(connect(dsn)) as connection:
        migrate(connection)
        return processes.register(connection, lease_seconds)


def _describe(error: Exception) -> str:
    """What is wrong in one line; psycopg names hosts, users and databases, and no passwords."""
    return " ".join(str(error).split())
