"""A thread that writes to PostgreSQL over one connection, and commits in groups."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg

from atelier_server.errors import StorageError
from atelier_server.store.postgres.connections import PostgresConnection, is_lost
from atelier_server.store.sql.database import Job, Settled, settle

_MAX_GROUP = (
    32  # so many waiting writes at most share one commit; others wait for their locks meanwhile
)
_PATIENCE_SECONDS = 5.0  # with a server that restarts
_PAUSE_SECONDS = 0.1
_REFUSED_ALONE = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable)


class CommitUnknownError(Exception):
    """The connection broke while a transaction was committed, and the server does not say what became of it."""


class Writer:
    """Runs functions against one connection, one after the other, each in full or not at all.

    When the connection breaks, the transaction is run again on a new one; if it broke during the commit, only after the
    server has said that it was not committed.
    """

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], *, lock: int | None, name: str
    ) -> None:
        """Write over what `connect` returns; with a `lock`, no transaction begins before it has that advisory lock."""
        self._loop = asyncio.get_running_loop()
        self._connect = connect
        self._begin = (
            b"BEGIN" if lock is None else f"BEGIN; SELECT pg_advisory_xact_lock({lock})".encode()
        )
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._connection: PostgresConnection | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Have the job run after those that wait."""
        self._jobs.put(job)

    async def close(self) -> None:
        """Run the jobs that wait, then close the connection."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._drop()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job, *self._take_waiting()]
            jobs = [job for job in group if job is not None]
            self._loop.call_soon_threadsafe(settle, self._write(jobs))
            if None in group:
                return

    def _take_waiting(self) -> list[Job | None]:
        group: list[Job | None] = []
        while len(group) < _MAX_GROUP and None not in group:
            try:
                group.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return group

    def _write(self, group: list[Job]) -> list[Settled]:
        """Run the jobs in one transaction; in one each, if they were in each other's way or that of other processes."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._commit(group)
            except _REFUSED_ALONE as error:
                self._roll_back()
                if len(group) > 1:
                    return [outcome for job in group for outcome in self._write([job])]
                if time.monotonic() > end:
                    return _fail(group, error)
            except (psycopg.Error, CommitUnknownError) as error:
                broken = self._connection is None or is_lost(self._connection.connection)
                self._drop()
                unknown = isinstance(error, CommitUnknownError)
                if unknown or not broken or time.monotonic() > end:
                    return _fail(group, error)
                time.sleep(_PAUSE_SECONDS)

    def _commit(self, group: list[Job]) -> list[Settled]:
        if self._connection is None:
            self._connection = PostgresConnection(self._connect())
        db = self._connection
        db.connection.execute(self._begin)
        outcomes = self._run_all(db, group)
        found = db.connection.execute("SELECT pg_current_xact_id_if_assigned()::text").fetchone()
        try:
            db.connection.execute("COMMIT")
        except psycopg.OperationalError:
            if found is None or found[0] is None or self._was_committed(str(found[0])):
                return outcomes
            raise
        return outcomes

    def _was_committed(self, transaction: str) -> bool:
        """Ask the server, over a new connection, what became of a transaction."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            self._drop()
            with suppress(psycopg.OperationalError):
                self._connection = PostgresConnection(self._connect())
                query = "SELECT pg_xact_status(%s::text::xid8)"
                found = self._connection.connection.execute(query, (transaction,)).fetchone()
                if found is not None and found[0] != "in progress":
                    return bool(found[0] == "committed")
            time.sleep(_PAUSE_SECONDS)
        raise CommitUnknownError("the server went away while it committed")

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
                    db.connection.execute("ROLLBACK")
                    db.connection.execute(self._begin)
                    return [_run_in_savepoint(db, job) for job in group]
                outcomes.append((job, None, error))
        return outcomes

    def _roll_back(self) -> None:
        try:
            if self._connection is not None:
                self._connection.connection.execute("ROLLBACK")
        except psycopg.Error:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.connection.close()
        self._connection = None


def _run_in_savepoint(db: PostgresConnection, job: Job) -> Settled:
    db.connection.execute("SAVEPOINT job")
    try:
        result = job.work(db)
    except (*_REFUSED_ALONE, psycopg.OperationalError):
        raise
    except Exception as error:  # noqa: BLE001 (handed to whoever asked for the work)
        db.connection.execute("ROLLBACK TO job; RELEASE job")
        return job, None, error
    db.connection.execute("RELEASE job")
    return job, result, None


def _fail(group: list[Job], error: Exception) -> list[Settled]:
    fault = describe_fault(error)
    return [(job, None, fault) for job in group]


def describe_fault(error: Exception) -> StorageError:
    """The error that callers get for a fault of the database; without its address."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    fault = StorageError.from_fault(primary or "the database does not answer")
    fault.__cause__ = error
    return fault
