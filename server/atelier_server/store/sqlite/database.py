"""One thread that writes an SQLite file, and commits in groups; reads have connections of their own."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from atelier_server.errors import StorageError
from atelier_server.store.sql.database import Job, Outcome, Settled, settle
from atelier_server.store.sqlite.checkpoints import Checkpoints
from atelier_server.store.sqlite.readers import Readers

ResultT = TypeVar("ResultT")
_MAX_GROUP = 128  # so many waiting writes at most share one commit
_MAX_LOG_BYTES = 32 * 2**20
"""Of the write-ahead log; SQLite alone keeps it at 4 MiB unless a read lasts long."""
_BUSY_TIMEOUT_MS = 5000
_CHECKPOINT_WAIT_MS = 250  # for reads to end
_CHECKPOINT_INTERVAL_SECONDS = 1.0
_log = logging.getLogger(__name__)
_COUNT = struct.Struct("<16sQQ")
_CHECKSUM = struct.Struct("<I")
_ADVICE = (
    "the -wal file was damaged, cut or removed, or an older copy of the database was put in place: what was accepted "
    "or finished in the lost transactions is unknown to this server; restore a newer copy, or have callers try again"
)


@dataclass(frozen=True, slots=True)
class Committed:
    """How far the commits of a database came."""

    file: bytes
    """Identifies the database, 16 bytes: the count of another one says nothing."""
    transactions: int
    """Transactions that changed something, since the database was made."""
    generations: int
    """Generations that were accepted, since the database was made."""


class CommitCount:
    """Counts commits in a database and in a file beside it, so that a start notices which of them are lost.

    SQLite reads its write-ahead log up to the first damaged frame and drops the rest without a word. Only the thread
    that writes the database may use this.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            OSError: it can't be opened for writing.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def check(self, connection: sqlite3.Connection) -> None:
        """Log how many commits the database lacks, if any; from now on the file agrees with it."""
        recovered, expected = _read_committed(connection), self._read_file()
        if (
            expected is not None
            and expected.file == recovered.file
            and expected.transactions > recovered.transactions
        ):
            fields = {
                "expected_transactions": expected.transactions,
                "recovered_transactions": recovered.transactions,
                "expected_generations": expected.generations,
                "recovered_generations": recovered.generations,
                "advice": _ADVICE,
            }
            _log.error("database_transactions_lost", extra=fields)
        self.write(recovered)

    def count(self, connection: sqlite3.Connection) -> Committed:
        """Count the transaction that is under way, in the database; returns what to `write` when it is committed."""
        statement = (
            "UPDATE commits SET transactions = transactions + 1 WHERE id = 1"
            " RETURNING file, transactions, generations"
        )
        return Committed(*connection.execute(statement).fetchone())

    def write(self, committed: Committed) -> None:
        """Write how far the commits came into the file; a fault of the disk only leaves it too low."""
        count = _COUNT.pack(committed.file, committed.transactions, committed.generations)
        with suppress(OSError):
            os.pwrite(self._file, count + _CHECKSUM.pack(zlib.crc32(count)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _read_file(self) -> Committed | None:
        """The count of the file; None if it has none yet, or is damaged."""
        data = os.pread(self._file, _COUNT.size + _CHECKSUM.size, 0)
        count = data[: _COUNT.size]
        if len(data) < _COUNT.size + _CHECKSUM.size:
            return None
        if _CHECKSUM.unpack(data[_COUNT.size :]) != (zlib.crc32(count),):
            return None
        return Committed(*_COUNT.unpack(count))


class Database:
    """Runs functions that write against one connection, one after the other, each in full or not at all.

    Under load several share one commit, which makes writes cheap. With `synchronous` NORMAL a committed
    write survives the death of the process; with FULL also that of the machine.
    """

    def __init__(
        self,
        path: Path,
        *,
        prepare: Callable[[sqlite3.Connection], None],
        synchronous: str = "NORMAL",
        commits: CommitCount | None = None,
    ) -> None:
        """Open or create the file, and have `prepare` bring its schema up to date.

        With `commits`, what the file lacks is logged, and each commit is counted; it is closed with the file.

        Raises:
            sqlite3.Error: the file can't be opened or written, or is no database.
            Exception: whatever `prepare` raises.
        """
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        _make_private(path)
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._log_path = path.with_name(f"{path.name}-wal")
        self._checkpoint_due = 0.0
        self._commits = commits
        try:
            configure(self._connection, synchronous)
            prepare(self._connection)
            _require_writable(self._connection)
            if commits is not None:
                commits.check(self._connection)
            self._readers = Readers(path)
            self._checkpoints = Checkpoints(path, self._connection)
        except BaseException:
            self._close()
            raise
        self._thread = threading.Thread(target=self._serve, name="store", daemon=True)
        self._thread.start()

    async def run(
        self,
        work: Callable[[sqlite3.Connection], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
    ) -> ResultT:
        """Run `work(connection)` in a transaction; it is durable when this returns. See `start`.

        Raises:
            StorageError: the file cannot be written or read; nothing was written then.
            Exception: whatever `work` raises; nothing of it was written then.
        """
        return await self.start(work, on_commit=on_commit)

    run_claimed = run

    def start(
        self,
        work: Callable[[sqlite3.Connection], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> Outcome[ResultT]:
        """Begin to run `work(connection)` in a transaction; the future has its result once that is durable.

        The write is not undone when the caller is cancelled meanwhile. So what must follow from it goes into
        `on_commit(result)`, which always runs, in the event loop and in the order of the writes; or, if nothing was
        written, into `on_failure()`.
        """
        done: Outcome[ResultT] = Outcome(loop=self._loop)
        self._jobs.put(Job(work, on_commit, on_failure, done))
        return done

    async def read(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run `work(connection)` on all that is committed, without waiting for any write; see Readers.run."""
        return await self._readers.run(work)

    async def close(self) -> None:
        """Run the functions that wait, then close the file."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await self._readers.close()
        await asyncio.to_thread(self._checkpoints.close)
        self._close()

    def _close(self) -> None:
        self._connection.close()
        if self._commits is not None:
            self._commits.close()

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            group = [job, *self._take_waiting()]
            outcomes = self._commit([job for job in group if job is not None])
            self._loop.call_soon_threadsafe(settle, outcomes)
            if None in group:
                return
            self._checkpoints.count(len(group))
            self._bound_log()

    def _take_waiting(self) -> list[Job | None]:
        group: list[Job | None] = []
        while len(group) < _MAX_GROUP:
            try:
                group.append(self._jobs.get_nowait())
            except queue.Empty:
                break
            if group[-1] is None:
                break
        return group

    def _commit(self, group: list[Job]) -> list[Settled]:
        counted = None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            before = self._connection.total_changes
            outcomes = self._run_all(group)
            if self._commits is not None and self._connection.total_changes > before:
                counted = self._commits.count(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:  # the disk is full, for instance: no job was written
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            fault = StorageError.from_fault(str(error))
            fault.__cause__ = error
            return [(job, None, fault) for job in group]
        if self._commits is not None and counted is not None:
            self._commits.write(counted)
        return outcomes

    def _bound_log(self) -> None:
        """Empty the write-ahead log if overlapping reads have let it grow: new reads do not use it meanwhile."""
        if time.monotonic() < self._checkpoint_due:
            return
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_INTERVAL_SECONDS
        if _size_of(self._log_path) <= _MAX_LOG_BYTES:
            return
        with suppress(sqlite3.Error):  # the disk is full, for instance: a later one empties it
            self._connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")

    def _run_all(self, group: list[Job]) -> list[Settled]:
        """Run the jobs; only if one raises after it has written, all run again, each in a savepoint of its own."""
        outcomes: list[Settled] = []
        for job in group:
            before = self._connection.total_changes
            try:
                outcomes.append((job, job.work(self._connection), None))
            except sqlite3.OperationalError:
                raise  # the disk is full, for instance: the whole group is undone
            except Exception as error:  # noqa: BLE001 (handed to whoever asked for the work)
                if self._connection.total_changes > before or not self._connection.in_transaction:
                    self._restart_transaction()
                    return [self._run_in_savepoint(job) for job in group]
                outcomes.append((job, None, error))
        return outcomes

    def _restart_transaction(self) -> None:
        if self._connection.in_transaction:  # SQLite ends it itself after some errors
            self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN IMMEDIATE")

    def _run_in_savepoint(self, job: Job) -> Settled:
        self._connection.execute("SAVEPOINT job")
        try:
            result = job.work(self._connection)
        except sqlite3.OperationalError:
            raise  # the disk is full, for instance: the whole group is undone
        except Exception as error:  # noqa: BLE001 (handed to whoever asked for the work)
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            return job, None, error
        self._connection.execute("RELEASE job")
        return job, result, None


def _read_committed(connection: sqlite3.Connection) -> Committed:
    query = "SELECT file, transactions, generations FROM commits WHERE id = 1"
    return Committed(*connection.execute(query).fetchone())


def configure(connection: sqlite3.Connection, synchronous: str) -> None:
    """Set what a connection that writes needs; of a new file also what can't be changed later."""
    if connection.execute("PRAGMA page_count").fetchone() == (0,):  # a new file: before all else
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA journal_size_limit = {_MAX_LOG_BYTES}")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA foreign_keys = ON")


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # somebody has removed it
        return 0


def _require_writable(connection: sqlite3.Connection) -> None:
    """Write what the file has already: SQLite opens a file that it may not write without an error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute("COMMIT")


def _make_private(path: Path) -> None:
    """Have the file readable for its owner alone; SQLite gives its log the permissions of the file."""
    with suppress(OSError):  # SQLite says what is wrong
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
