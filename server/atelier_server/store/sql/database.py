"""What the shared statements need of a database: a connection, and a way to run functions that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

ResultT = TypeVar("ResultT")


class Cursor(Protocol):
    """What a statement has found or done."""

    @property
    def rowcount(self) -> int:
        """How many rows it has written."""

    def __next__(self) -> Any:  # noqa: ANN401 (a row)
        """The next row as a tuple."""

    def fetchone(self) -> Any:  # noqa: ANN401 (a row, or None)
        """The next row as a tuple; None when there is none."""

    def fetchall(self) -> list[Any]:
        """The rows that are left, as tuples."""

    def __iter__(self) -> Iterator[Any]:
        """The rows that are left, as tuples."""


class Connection(Protocol):
    """Runs statements in the transaction that is under way, as the connections of `sqlite3` do.

    Values take the places of question marks: in order, or by number (`?1`).
    """

    def execute(self, statement: str, values: Any = ..., /) -> Cursor:  # noqa: ANN401 (a sequence of values)
        """Run one statement."""

    def executemany(self, statement: str, values: Any, /) -> Cursor:  # noqa: ANN401 (rows of values)
        """Run one statement for each row of values."""


@runtime_checkable
class LogsAtOnce(Protocol):
    """A connection to a server, to which each statement is a message: it writes a generation and its events in one."""

    def write_logged(
        self, statement: str, values: Sequence[Any], records: Sequence[bytes]
    ) -> int | None:
        """See event_rows.write_logged."""


class Outcome(asyncio.Future[ResultT]):
    """What a write has led to. Whoever is cancelled while it awaits this is cancelled as soon as that is known.

    A task asks the future that it awaits to be cancelled, and is told here that it cannot be. So no task and no second
    future is needed to shield the write, and each of them would cost the event loop another turn.
    """

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 (of the interface)
        """Do nothing: a write is not undone."""
        return False


@dataclass(frozen=True, slots=True)
class Job:
    """A function that writes, and what follows from it in the event loop."""

    work: Callable[[Any], Any]
    on_commit: Callable[[Any], None] | None
    on_failure: Callable[[], None] | None
    done: Outcome[Any]


Settled: TypeAlias = tuple[Job, Any, Exception | None]
"""A job with its result, or with what it raised."""


def settle(outcomes: list[Settled]) -> None:
    """Run in the event loop what follows from jobs whose transaction has ended, in their order."""
    for job, result, error in outcomes:
        raised = _run_callback(job, result, error)
        if raised is not None:
            job.done.set_exception(raised)
            job.done.exception()  # read, since after the caller was cancelled nobody else will
        else:
            job.done.set_result(result)


def _run_callback(job: Job, result: Any, error: Exception | None) -> Exception | None:  # noqa: ANN401 (whatever the job returned)
    """Run what follows from the job; returns its error or the job's, so that it does not affect others of the group."""
    try:
        if error is None and job.on_commit is not None:
            job.on_commit(result)
        elif error is not None and job.on_failure is not None:
            job.on_failure()
    except Exception as raised:  # noqa: BLE001 (handed to whoever asked for the work)
        return raised
    return error


class Database(Protocol):
    """Runs functions against connections, each in a transaction: in full or not at all."""

    async def run(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
    ) -> ResultT:
        """Run `work(connection)`, which may write anything; it is durable when this returns. See `start`.

        Raises:
            StorageError: the database cannot be written or read; nothing was written then.
            Exception: whatever `work` raises; nothing of it was written then.
        """

    async def run_claimed(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
    ) -> ResultT:
        """As `run`, for work that writes under a claim alone: it enters no queue, and leaves none."""

    def start(
        self,
        work: Callable[[Any], ResultT],
        *,
        on_commit: Callable[[ResultT], None] | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> Outcome[ResultT]:
        """Begin to run `work(connection)` in a transaction; the future has its result once that is durable.

        The write is not undone when the caller is cancelled meanwhile. So what must follow from it goes into
        `on_commit(result)`, which always runs, in the event loop and in the order of the writes; or, if nothing was
        written, into `on_failure()`.
        """

    async def read(self, work: Callable[[Any], ResultT]) -> ResultT:
        """Run `work(connection)`, which must not write, on all that is committed, without waiting for any write.

        Raises:
            StorageError: the database cannot be read.
            Exception: whatever `work` raises.
        """

    async def close(self) -> None:
        """Run the functions that wait, then close the connections."""


def oldest_first(db: Connection) -> str:
    """The column by which generations that wait are ordered, from the oldest on.

    A database whose planner prefers the primary key to the index of what waits has another column than the id.
    """
    return getattr(db, "queue_order", "id")
