"""Writes of this process to a PostgreSQL database in two threads, and reads in others.

What enters or leaves a queue is written under one lock that all processes share, so that queues, shares and quotas are
as exact as with one process; a group of such writes shares the lock and the commit. What a worker writes about the work
that it has claimed needs no such lock: the fence says whether it counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout

from atelier_server.store.postgres.connections import (
    PostgresConnection,
    connect,
    describe,
    prepare,
)
from atelier_server.store.postgres.writer import Writer, describe_fault
from atelier_server.store.sql.database import Job, Outcome

ResultT = TypeVar("ResultT")
_QUEUES_LOCK = 0x6174_656C_0001
_READERS = 4
_PATIENCE_SECONDS = 5.0  # with a server that restarts
_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresDatabase:
    """See sql.database.Database."""

    def __init__(self, dsn: str, process: int) -> None:
        """Connect when something is asked for; `process` is the number of this process in the database."""
        self._loop = asyncio.get_running_loop()
        connecting = partial(connect, dsn, process=process)
        self._queues = Writer(connecting, lock=_QUEUES_LOCK, name="store-queues")
        self._claims = Writer(connecting, lock=None, name="store-claims")
        self._readers = _Readers(dsn)

    async def run(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
    ) -> ResultT:
        """See Database.run."""
        return await self.start(work, on_commit=on_commit)

    async def run_claimed(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
    ) -> ResultT:
        """See Database.run_claimed."""
        done: Outcome[ResultT] = Outcome(loop=self._loop)
        self._claims.put(Job(work, on_commit, None, done))
        return await done

    def start(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> Outcome[ResultT]:
        """See Database.start."""
        done: Outcome[ResultT] = Outcome(loop=self._loop)
        self._queues.put(Job(work, on_commit, on_failure, done))
        return done

    async def read(self, work: Callable[[Any], ResultT]) -> ResultT:
        """See Database.read."""
        return await self._readers.run(work)

    async def close(self) -> None:
        """See Database.close."""
        await self._queues.close()
        await self._claims.close()
        await self._readers.close()


class _Readers:
    """Threads that read, each over a connection that it takes from a pool."""

    def __init__(self, dsn: str) -> None:
        self._pool = ConnectionPool(
            describe(dsn),
            kwargs={"autocommit": True},
            configure=prepare,
            min_size=1,
            max_size=_READERS,
            open=True,
            timeout=_PATIENCE_SECONDS,
            reconnect_timeout=_PATIENCE_SECONDS,
        )
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")

    async def run(self, work: Callable[[Any], ResultT]) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._pool.close)

    def _read(self, work: Callable[[Any], ResultT]) -> ResultT:
        """Read in one transaction, and again if its connection was one to a server that has restarted since."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with self._pool.connection() as connection:
                    connection.execute(_BEGIN)
                    try:
                        return work(PostgresConnection(connection))
                    finally:
                        connection.execute("ROLLBACK")
            except (psycopg.OperationalError, PoolTimeout) as error:
                if time.monotonic() > end:
                    raise describe_fault(error) from error
