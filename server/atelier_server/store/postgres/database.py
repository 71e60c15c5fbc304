"""Writes of this process to a PostgreSQL database in two threads, and reads in others.

What enters or leaves a queue is written under one lock that all processes share, so that queues, shares and quotas are
as exact as with one process; a group of such writes shares the lock and the commit. What a worker writes about the work
that it has claimed needs no such lock: the fence says whether it counts.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import psycopg

from atelier_server.store.postgres import processes
from atelier_server.store.postgres.connections import connect
from atelier_server.store.postgres.sessions import Session, describe_fault, pause, run_plain
from atelier_server.store.postgres.writer import Writer
from atelier_server.store.sql.database import Job, Outcome

ResultT = TypeVar("ResultT")
_QUEUES_LOCK = 0x6174_656C_0001
_READERS = 4
_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresDatabase:
    """See sql.database.Database."""

    def __init__(self, dsn: str, process: int) -> None:
        """Connect when something is asked for; `process` is the number of this process in the database."""
        self._loop = asyncio.get_running_loop()
        connecting = partial(connect, dsn, process=process)
        queues, claims = processes.WRITERS
        self._queues = Writer(connecting, process=process, name=queues, lock=_QUEUES_LOCK)
        self._claims = Writer(connecting, process=process, name=claims, lock=None)
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
    """Threads that read, each over a connection that it takes from those that nobody uses."""

    def __init__(self, dsn: str) -> None:
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="store-read")
        self._free: queue.LifoQueue[Session] = queue.LifoQueue()
        for _ in range(_READERS):
            self._free.put(Session(partial(connect, dsn)))

    async def run(self, work: Callable[[Any], ResultT]) -> ResultT:
        read = partial(self._read, work, time.monotonic())
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        while not self._free.empty():
            self._free.get().close()

    def _read(self, work: Callable[[Any], ResultT], since: float) -> ResultT:
        """Read in one transaction, and again if its connection was one to a server that has restarted since."""
        session = self._free.get()  # there are as many as threads
        try:
            while True:
                try:
                    return _read_once(session, work)
                except psycopg.Error as error:
                    if not session.note_fault(error) or session.has_waited(since):
                        raise describe_fault(error) from error
                    pause()
        finally:
            self._free.put(session)


def _read_once(session: Session, work: Callable[[Any], ResultT]) -> ResultT:
    db = session.open()
    run_plain(db.connection, _BEGIN)
    try:
        found = work(db)
    except psycopg.Error:
        raise  # what it says decides about the connection
    except Exception:
        session.roll_back()
        raise
    session.roll_back()
    session.note_answer()
    return found
