"""A thread that writes to PostgreSQL over one connection, and commits in groups."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from atelier_server.store.postgres.connections import PostgresConnection
from atelier_server.store.postgres.sessions import Session, describe_fault, pause, run_plain
from atelier_server.store.sql.database import Job, Settled, settle

_MAX_GROUP = (
    32  # so many waiting writes at most share one commit; others wait for their locks meanwhile
)
_REFUSED_ALONE = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_COUNT = (
    "INSERT INTO writers AS w (process, name, transactions) VALUES ({process}, '{name}', {number})"
    " ON CONFLICT (process, name) DO UPDATE SET transactions = excluded.transactions"
)
_LAST = "SELECT transactions FROM writers WHERE process = %s AND name = %s FOR UPDATE"
"""Waits until a transaction that may still be under way has ended."""


class CommitUnknownError(psycopg.OperationalError):
    """The connection broke while a transaction was committed, and nobody can say what became of it."""


class NotCommittedError(psycopg.OperationalError):
    """The connection broke while a transaction was committed, and it was not."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A job, and when it came."""

    job: Job
    since: float = field(default_factory=time.monotonic)


class Writer:
    """Runs functions against one connection, one after the other, each in full or not at all.

    When the connection breaks, the transaction is run again on a new one; if it broke during the commit, only if it was
    not committed. Each transaction first writes its number into the row of its writer, so that this is known: numbers
    of transactions that PostgreSQL gives are given anew after a crash.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        *,
        process: int,
        name: str,
        lock: int | None,
    ) -> None:
        """Write over what `connect` returns, as the writer of that name of this process, see `processes.register`.

        With a `lock`, no transaction begins before it has that advisory lock.
        """
        self._loop = asyncio.get_running_loop()
        self._session = Session(connect)
        self._process, self._name = process, name
        self._lock = "" if lock is None else f"SELECT pg_advisory_xact_lock({lock});"
        self._number = 0
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=f"store-{name}", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Have the job run after those that wait."""
        self._jobs.put(_Waiting(job))

    async def close(self) -> None:
        """Run the jobs that wait, then close the connection."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._session.close()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job, *self._take_waiting()]
            self._write([job for job in group if job is not None])
            if None in group:
                return

    def _take_waiting(self) -> list[_Waiting | None]:
        group: list[_Waiting | None] = []
        while len(group) < _MAX_GROUP and None not in group:
            try:
                group.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return group

    def _write(self, group: list[_Waiting]) -> None:
        """Run the jobs in one transaction; in one each, if they were in each other's way or that of other processes."""
        while group:
            try:
                outcomes = self._commit([waiting.job for waiting in group])
            except _REFUSED_ALONE as error:
                self._session.roll_back()
                if len(group) == 1:
                    group = self._keep(group, error, again=False)
                for waiting in group:
                    self._write([waiting])
                return
            except CommitUnknownError as error:
                group = self._keep(group, error, again=False)
            except NotCommittedError as error:
                group = self._keep(group, error, again=True)
            except psycopg.Error as error:
                group = self._keep(group, error, again=self._session.note_fault(error))
                if group:
                    pause()
            else:
                self._session.note_answer()
                self._settle(outcomes)
                return

    def _commit(self, group: list[Job]) -> list[Settled]:
        db = self._session.open()
        self._begin(db)
        before = db.written
        outcomes = self._run_all(db, group)
        if db.written == before:
            run_plain(db.connection, b"ROLLBACK")  # nothing waits for the disk
            return outcomes
        try:
            run_plain(db.connection, b"COMMIT")
        except psycopg.Error as error:
            if not self._session.is_passing(error):
                raise
            self._session.note_fault(error)
            if not self._was_committed():
                raise NotCommittedError from error
        return outcomes

    def _begin(self, db: PostgresConnection) -> None:
        self._number += 1
        count = _COUNT.format(process=self._process, name=self._name, number=self._number)
        statements = f"BEGIN ISOLATION LEVEL READ COMMITTED;{self._lock}{count}"
        run_plain(db.connection, statements.encode())

    def _was_committed(self) -> bool:
        """Ask the server, over a new connection, what became of the transaction."""
        asked = time.monotonic()
        while True:
            self._session.close()
            try:
                connection = self._session.open().connection
                found = connection.execute(_LAST, (self._process, self._name)).fetchone()
            except psycopg.Error as error:
                self._session.note_fault(error)
                if self._session.has_waited(asked):
                    msg = "the server went away while it committed"
                    raise CommitUnknownError(msg) from error
                pause()
            else:
                if found is None:
                    msg = "this process was taken for dead while it committed"
                    raise CommitUnknownError(msg)
                return bool(found[0] == self._number)

    def _run_all(self, db: PostgresConnection, group: list[Job]) -> list[Settled]:
        """Run the jobs; only if one raises after it has written, all run again, each in a savepoint of its own."""
        outcomes: list[Settled] = []
        for job in group:
            before = db.written
            try:
                outcomes.append((job, job.work(db), None))
            except (*_REFUSED_ALONE, psycopg.OperationalError):
                raise
            except Exception as error:  # noqa: BLE001 (handed to whoever asked for the work)
                if isinstance(error, psycopg.Error) or db.written > before:
                    run_plain(db.connection, b"ROLLBACK")
                    self._begin(db)
                    return [_run_in_savepoint(db, job) for job in group]
                outcomes.append((job, None, error))
        return outcomes

    def _keep(self, group: list[_Waiting], error: psycopg.Error, *, again: bool) -> list[_Waiting]:
        """Those of the jobs that are to be run `again`; the others, which have waited too long, fail."""
        kept = [each for each in group if again and not self._session.has_waited(each.since)]
        fault = describe_fault(error)
        self._settle([(each.job, None, fault) for each in group if each not in kept])
        return kept

    def _settle(self, outcomes: list[Settled]) -> None:
        self._loop.call_soon_threadsafe(settle, outcomes)


def _run_in_savepoint(db: PostgresConnection, job: Job) -> Settled:
    run_plain(db.connection, b"SAVEPOINT job")
    try:
        result = job.work(db)
    except (*_REFUSED_ALONE, psycopg.OperationalError):
        raise
    except Exception as error:  # noqa: BLE001 (handed to whoever asked for the work)
        run_plain(db.connection, b"ROLLBACK TO job; RELEASE job")
        return job, None, error
    run_plain(db.connection, b"RELEASE job")
    return job, result, None
