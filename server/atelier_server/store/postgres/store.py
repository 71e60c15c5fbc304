"""Stores generations in a PostgreSQL database, which several processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg

from atelier.v1.generation_pb2 import CancelCause, State
from atelier_server import ids
from atelier_server.errors import DatabaseUnusableError, StorageError
from atelier_server.store.isolation import Isolation
from atelier_server.store.postgres import attendances, processes
from atelier_server.store.postgres.connections import PostgresConnection, connect
from atelier_server.store.postgres.database import PostgresDatabase
from atelier_server.store.postgres.migrations import migrate
from atelier_server.store.postgres.notices import Notice, Notices
from atelier_server.store.postgres.shared_events import SharedCancellations, SharedEventBus
from atelier_server.store.postgres.worker_registry import PostgresWorkerRegistry
from atelier_server.store.protocol import ENDED, CancelResult, Claim, Event
from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sql import event_rows, history, operations, recovery, shares
from atelier_server.store.sql.sql_store import SqlStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRules:
    """How work is claimed, and taken over of which a process died, see `SqliteStore.open`."""

    max_attempts: int
    local_engines: Collection[str] = ()
    free_engines: Collection[str] = ()
    running_limits: RunningLimits | None = None
    runs_engines: bool = True
    """Whether this process claims work. One that does not leaves a takeover to those that do, if there are any."""


@dataclass(slots=True)
class _Taken:
    """What a takeover has changed."""

    queued: dict[str, int] = field(default_factory=dict)
    suspects: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    cancelled_jobs: list[Claim] = field(default_factory=list)


_MANY = 2**31


class PostgresStore(SqlStore):
    """See protocol.Store. Several processes may use one database."""

    def __init__(
        self,
        dsn: str,
        database: PostgresDatabase,
        lease: processes.Lease,
        *,
        retention_seconds: float,
        rules: RecoveryRules,
        poll_seconds: float,
    ) -> None:
        """Use `open` instead, which also makes the tables."""
        super().__init__(database, retention_seconds=retention_seconds)
        self._lease = lease
        self._rules = rules
        self._free_engines = rules.free_engines
        self._limits = rules.running_limits
        self._running: set[str] = set()
        self.workers = PostgresWorkerRegistry(database, lease)
        """What the processes tell each other about their engines."""
        self._notices = Notices(dsn, lease.process, self._receive)
        self._shared = SharedEventBus(self._notices.tell_event)
        self._events = self._shared
        self._cancellations = SharedCancellations(
            self._running.__contains__, self._notices.tell_cancelled
        )
        self._poll_seconds = poll_seconds
        self._poll_now = asyncio.Event()
        self._behind: dict[str, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._polling = asyncio.create_task(self._poll_periodically())

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        retention_seconds: float,
        lease_seconds: float,
        rules: RecoveryRules,
        poll_seconds: float = 1.0,
    ) -> PostgresStore:
        """Open the database, make or migrate its tables, and take over the work of processes whose leases have ended.

        What other processes should have told it looks up itself every `poll_seconds`.

        Raises:
            DatabaseUnusableError: it can't be reached, is of a newer version, or has tables of something else.
        """
        try:
            process = await asyncio.to_thread(_prepare, dsn, lease_seconds)
            store = cls(
                dsn,
                PostgresDatabase(dsn, process),
                processes.Lease(dsn, process, lease_seconds),
                retention_seconds=retention_seconds,
                rules=rules,
                poll_seconds=poll_seconds,
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
        taken = _Taken()
        if self._rules.runs_engines:
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
        self._polling.cancel()
        await asyncio.gather(
            self._polling, *([self._reading] if self._reading else []), return_exceptions=True
        )
        await self._lease.stop()
        try:
            await self._database.run(lambda db: processes.end_lease(db, self._lease.process))
        except StorageError:  # they take over when the lease has ended
            pass
        finally:
            await self._notices.close()
            await self._database.close()

    async def speaks_for_all(self) -> bool:
        """See WorkStore.speaks_for_all."""
        return await self._database.read(
            lambda db: processes.speaks_for_all(db, self._lease.process)
        )

    async def sweep(self, now: float) -> AsyncGenerator[Sequence[str]]:
        """See Store.sweep. First takes over the work of processes whose leases have ended."""
        if self._lease.is_steady() and await self._is_takeover_due():
            await self._database.run(self._take_over, on_commit=self._continue)
        async with aclosing(super().sweep(now)) as steps:
            async for deleted in steps:
                yield deleted

    is_shared = True
    """See Attendance.is_shared."""

    async def attend(self, generation_id: str, *, started: bool, again: bool = False) -> bool:
        """See Attendance.attend. Calls that only follow, which may come late, wait for no lock."""
        attend = partial(
            attendances.attend,
            process=self._lease.process,
            generation_id=generation_id,
            started=started,
            again=again,
        )
        return await (self._database.run if started else self._database.run_claimed)(attend)

    async def leave(self, generation_id: str) -> bool:
        """See Attendance.leave."""
        process = self._lease.process
        return await self._database.run_claimed(
            lambda db: attendances.leave(db, process, generation_id)
        )

    async def cancel_abandoned(
        self, caller: str, generation_id: str, *, any_call: bool, still_followed: bool
    ) -> bool:
        """See Attendance.cancel_abandoned."""
        cause = CancelCause.CANCEL_CAUSE_CALLERS_LOST
        keep, free = self._retention_seconds, self._free_engines

        def work(db: PostgresConnection) -> tuple[CancelResult, Event | None] | None:
            if attendances.is_wanted_elsewhere(
                db,
                self._lease.process,
                generation_id,
                any_call=any_call,
                still_followed=still_followed,
                lease_seconds=self._lease.seconds,
            ):
                return None
            return operations.cancel(db, caller, generation_id, cause, keep, free_engines=free)

        def on_commit(written: tuple[CancelResult, Event | None] | None) -> None:
            if written is not None:
                self._note_cancelled(generation_id, written)

        return await self._database.run(work, on_commit=on_commit) is not None

    async def _is_takeover_due(self) -> bool:
        is_any_dead = partial(processes.is_any_dead, lease_seconds=self._lease.seconds)
        if not await self._database.read(is_any_dead):
            return False
        return self._rules.runs_engines or not await self.workers.is_any_alive()

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

    def observe(self, observer: Callable[[Event], None], *, everywhere: bool = False) -> None:
        """See Store.observe."""
        super().observe(observer)
        if everywhere:
            self._shared.distant_observers.append(observer)

    def _wake_workers(self, engine: str, queued: int) -> None:
        super()._wake_workers(engine, queued)
        if queued:
            self._notices.tell_queue(engine)

    def _note_empty(self, engine: str, *, begun: bool) -> None:
        """Forget what was told of: other processes have claimed it."""
        if not begun:
            self._workers[engine].recount(0)

    def _receive(self, notice: Notice) -> None:
        """Act on what another process has told."""
        for event in notice.events.values():
            for observe in self._shared.distant_observers:
                observe(event)
            if event.state == State.STATE_QUEUED:
                self._workers[event.engine].notify()
            if event.state != State.STATE_RUNNING:
                self._held.notify()  # it may have made room for others of its tenant
            self._read_soon(event.generation_id, event.sequence)
        for engine in notice.queues:
            self._workers[engine].wake(_MANY)
        for generation_id in self._running & notice.cancelled:
            self._cancellations.request(generation_id)
        if notice.lost:
            self._poll_now.set()

    def _read_soon(self, generation_id: str, sequence: int) -> None:
        """Read the events of a generation up to that number, if anybody here waits for them."""
        latest = self._shared.find_latest(generation_id)
        if latest is None or latest >= sequence:
            return
        self._behind[generation_id] = latest or sequence - 1
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_events())

    async def _read_events(self) -> None:
        with suppress(StorageError):  # a poll reads them
            while self._behind:
                behind, self._behind = self._behind, {}
                for events in await self._database.read(partial(_read_logs, behind=behind)):
                    self._shared.publish_distant(events)

    async def _poll_periodically(self) -> None:
        """Read now and then what notices should have told."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._poll_now.wait(), self._poll_seconds)
            self._poll_now.clear()
            with suppress(StorageError):
                await self._poll()

    async def _poll(self) -> None:
        followed = self._shared.list_followed()
        find = partial(processes.find_news, process=self._lease.process, followed=followed)
        news = await self._database.read(find)
        for generation_id, sequence in news.sequences.items():
            self._read_soon(generation_id, sequence)
        for engine, count in news.queued.items():
            self._workers[engine].wake(count)
        for generation_id in self._running.intersection(news.cancelled):
            self._cancellations.request(generation_id)

    def _take_over(self, db: PostgresConnection) -> _Taken:
        taken = _Taken()
        attendances.forget(db)
        for running in processes.take_over(db, self._lease.seconds).values():
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


def _read_logs(db: PostgresConnection, behind: Mapping[str, int]) -> list[list[Event]]:
    return [event_rows.events_after(db, name, after) for name, after in behind.items()]


def _describe(error: Exception) -> str:
    """What is wrong in one line; psycopg names hosts, users and databases, and no passwords."""
    return " ".join(str(error).split())
