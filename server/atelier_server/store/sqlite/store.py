"""Stores generations in one SQLite file, for one process; wakes workers and watchers in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import CancelCause, Generation, State
from atelier_server.errors import DatabaseUnusableError, StorageError
from atelier_server.store import records
from atelier_server.store.events import EventBus, Topic
from atelier_server.store.isolation import Isolation
from atelier_server.store.protocol import (
    ENDED,
    CancelResult,
    Claim,
    ClaimLostError,
    Event,
    Page,
    Query,
    Submission,
    SubmitResult,
)
from atelier_server.store.sqlite import artifact_rows, expiry, history, listing, operations, rows
from atelier_server.store.sqlite.database import Database
from atelier_server.store.sqlite.migrations import migrate
from atelier_server.store.sqlite.operations import Release


class SqliteStore:
    """See protocol.Store. Only one process may have a file open."""

    def __init__(self, database: Database, *, retention_seconds: float) -> None:
        """Use `open` instead, which also requeues what an earlier process was running."""
        self._database = database
        self._retention_seconds = retention_seconds
        self._events = EventBus()
        self._isolation: Isolation | None = None  # None when nothing is suspect
        self._queued: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(0)
        )
        self._cancellations: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        retention_seconds: float,
        max_attempts: int,
        synchronous: str = "NORMAL",
        local_engines: Collection[str] = (),
    ) -> SqliteStore:
        """Open, migrate or create the file, and requeue the generations that a process that died was running.

        What may have caused its death runs alone from now on, see `store.isolation`. One that did so in
        `max_attempts` attempts, alone at last, has FAILED with the reason POISONED.
        The work of `local_engines` ended with that process; jobs that others started may go on at a remote service.

        Raises:
            DatabaseUnusableError: the file can't be opened, is damaged, or was written by a newer version.
        """
        try:
            database = Database(path, prepare=migrate, synchronous=synchronous)
            store = cls(database, retention_seconds=retention_seconds)
            waiting, store._isolation = await store._recover(max_attempts, local_engines)
        except (sqlite3.Error, DatabaseUnusableError, StorageError) as error:
            msg = (
                f"cannot use {path} ({error}); restore it, or move it away with its -wal and -shm files to start "
                "with an empty one, which cannot read the artifacts of the old one"
            )
            raise DatabaseUnusableError(msg) from error
        for engine, count in waiting.items():
            store._queued[engine] = asyncio.Semaphore(count)
        return store

    async def _recover(
        self, max_attempts: int, local_engines: Collection[str]
    ) -> tuple[dict[str, int], Isolation | None]:
        try:
            return await self._database.run(
                lambda db: operations.recover(
                    db, self._retention_seconds, max_attempts, local_engines
                )
            )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See Store.close."""
        await self._database.close()

    async def find_by_request_id(
        self, caller: str, request_id: str, digest: bytes
    ) -> SubmitResult | None:
        """See Store.find_by_request_id."""
        return await self._database.read(
            lambda db: rows.find_by_request_id(db, caller, request_id, digest)
        )

    async def submit(self, submission: Submission) -> SubmitResult:
        """See Store.submit."""

        def on_commit(written: tuple[SubmitResult, Event | None]) -> None:
            _, event = written
            if event is not None:
                self._publish([event])
                self._notify_waiter(submission.generation.engine)

        result, _ = await self._database.run(
            lambda db: operations.submit(db, submission), on_commit=on_commit
        )
        return result

    async def claim(self, engine: str) -> Claim:
        """See Store.claim."""
        while True:
            await self._queued[engine].acquire()
            claim = await self._claim_in_turn(engine)
            if claim is not None:
                return claim

    async def _claim_in_turn(self, engine: str) -> Claim | None:
        """Claim the first of the queue; None if there is none, or when it may not start before others have ended."""
        if self._isolation is None:
            return await self._claim_first(engine)
        async with self._isolation.turn() as turn:
            claim = await self._claim_first(engine, turn.may_start)
        if turn.refused:
            self._notify_waiter(engine)  # the generation still waits
            await turn.changed.wait()
        return claim

    async def _claim_first(
        self, engine: str, may_start: Callable[[str], bool] | None = None
    ) -> Claim | None:
        claiming = asyncio.ensure_future(
            self._database.run(
                lambda db: operations.claim(db, engine, self._events.is_watched, may_start),
                on_commit=lambda claimed: self._publish(claimed[1] if claimed else []),
            )
        )
        try:
            claimed = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await self._release_unwanted(claiming)
            raise
        except Exception:
            self._notify_waiter(engine)  # the generation still waits
            raise
        return claimed[0] if claimed else None

    async def _release_unwanted(
        self, claiming: asyncio.Future[tuple[Claim, list[Event]] | None]
    ) -> None:
        claimed = await claiming
        if claimed is not None:
            await self.release(claimed[0])

    async def save_task(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """See Store.save_task."""
        await self._database.run(lambda db: operations.save_task(db, claim, generation, task))

    async def log(self, claim: Claim, events: Sequence[Event]) -> None:
        """See Store.log."""
        await self._database.run(
            lambda db: operations.log(db, claim, events), on_commit=self._publish
        )

    async def save_remote_handle(self, claim: Claim, handle: str) -> None:
        """See Store.save_remote_handle."""
        await self._database.run(lambda db: operations.save_remote_handle(db, claim, handle))

    async def finish(self, claim: Claim, generation: Generation, progress: Event) -> Generation:
        """See Store.finish."""

        def on_commit(written: tuple[Generation, Event]) -> None:
            self._cancellations.pop(generation.id, None)
            self._publish([written[1]])

        ended, _ = await self._database.run(
            lambda db: operations.finish(db, claim, generation, progress, self._retention_seconds),
            on_commit=on_commit,
        )
        return ended

    async def release(
        self,
        claim: Claim,
        *,
        started: Timestamp | None = None,
        keep_remote_handle: bool = False,
        stopped: bool = True,
    ) -> None:
        """See Store.release."""
        now = Timestamp()
        now.GetCurrentTime()
        release = Release(
            generation=records.list_released(claim, started, now),
            keep_remote_handle=keep_remote_handle,
            stopped=stopped,
        )
        try:
            await self._requeue(claim, release)
        except ClaimLostError:
            return

    async def requeue_on_engine(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """See Store.requeue_on_engine."""
        await self._requeue(claim, Release(generation=generation, task=task))

    async def _requeue(self, claim: Claim, release: Release) -> None:
        def on_commit(event: Event) -> None:
            self._cancellations.pop(event.generation_id, None)
            self._publish([event])
            if event.state == State.STATE_QUEUED:
                self._notify_waiter(event.engine)

        await self._database.run(
            lambda db: operations.requeue(db, claim, release, self._retention_seconds),
            on_commit=on_commit,
        )

    async def wait_cancelled(self, claim: Claim) -> None:
        """See Store.wait_cancelled."""
        await self._cancellations[claim.generation.id].wait()

    async def cancel(
        self,
        caller: str,
        generation_id: str,
        cause: CancelCause.ValueType = CancelCause.CANCEL_CAUSE_REQUESTED,
    ) -> CancelResult:
        """See Store.cancel."""

        def on_commit(written: tuple[CancelResult, Event | None]) -> None:
            result, event = written
            if event is not None:
                self._publish([event])
            if result is CancelResult.REQUESTED:
                self._cancellations[generation_id].set()

        result, _ = await self._database.run(
            lambda db: operations.cancel(db, caller, generation_id, cause, self._retention_seconds),
            on_commit=on_commit,
        )
        return result

    async def watch(
        self, generation_id: str, after: int, *, max_silence_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """See Store.watch."""
        with self._events.subscribe(generation_id, watching=True) as topic:
            row = await self._database.read(lambda db: rows.find(db, generation_id))
            if row.record.generation.state in ENDED and row.sequence <= after:
                return
            while True:
                for event in await self._read_events(topic, generation_id, after):
                    yield event
                    after = event.sequence
                    if event.state in ENDED:
                        return
                if topic.exhausted(after):
                    return
                if not await topic.wait_after(after, max_silence_seconds):
                    last = await self._read_last_event(generation_id)
                    if last.sequence <= after and last.state not in ENDED:
                        yield records.repeat(last)

    async def _read_events(self, topic: Topic, generation_id: str, after: int) -> list[Event]:
        """The events after number `after`: the next one if it is in memory, else all that the log has."""
        if (event := topic.next(after)) is not None:
            return [event]

        def work(db: sqlite3.Connection) -> list[Event]:
            rows.find(db, generation_id)
            return rows.events_after(db, generation_id, after)

        return await self._database.read(work)

    async def _read_last_event(self, generation_id: str) -> Event:
        def work(db: sqlite3.Connection) -> Event:
            rows.find(db, generation_id)
            return rows.last_event(db, generation_id)

        return await self._database.read(work)

    async def wait_dispatched(self, caller: str, generation_id: str) -> None:
        """See Store.wait_dispatched."""
        with self._events.subscribe(generation_id, watching=False) as topic:
            # after the writes whose events this waits for: a read beside them may see a change before its event comes
            row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
            if row.record.generation.state == State.STATE_QUEUED:
                await topic.wait_dispatched()

    async def wait_ended(self, caller: str, generation_id: str) -> Generation:
        """See Store.wait_ended."""
        with self._events.subscribe(generation_id, watching=False) as topic:
            generation = await self.get(caller, generation_id)
            if generation.state in ENDED:
                return generation
            ended = Generation()
            ended.CopyFrom((await topic.wait_last()).generation)
            return ended

    async def get(self, caller: str, generation_id: str) -> Generation:
        """See Store.get."""
        row = await self._database.read(lambda db: rows.find(db, generation_id, caller))
        return row.record.generation

    async def list(self, query: Query) -> Page:
        """See Store.list."""
        return await self._database.read(lambda db: listing.search(db, query))

    async def queue_depth(self, engine: str) -> int:
        """See Store.queue_depth."""
        return await self._database.read(lambda db: rows.count_waiting(db, engine))

    async def list_queued_engines(self) -> Sequence[str]:
        """See Store.list_queued_engines."""
        return list(await self._database.read(rows.count_waiting_by_engine))

    def observe(self, observer: Callable[[Event], None]) -> None:
        """See Store.observe."""
        self._events.observers.append(observer)

    async def list_waiting_tasks(self) -> Sequence[tuple[str, str, bytes]]:
        """See Store.list_waiting_tasks."""
        return await self._database.read(history.list_waiting_tasks)

    async def list_succeeded_tasks(self, limit: int) -> Sequence[tuple[Generation, bytes]]:
        """See Store.list_succeeded_tasks."""
        return await self._database.read(lambda db: history.list_succeeded_tasks(db, limit))

    async def spent_today(self, engine: str) -> float:
        """See Store.spent_today."""
        return await self._database.read(lambda db: rows.spent_today(db, engine))

    async def add_artifact(self, caller: str, artifact: Artifact) -> None:
        """See Store.add_artifact."""
        await self._database.run(lambda db: rows.add_artifacts(db, caller, [artifact]))

    async def get_artifact(self, caller: str, artifact_id: str) -> Artifact:
        """See Store.get_artifact."""
        return await self._database.read(
            lambda db: artifact_rows.find_artifact(db, caller, artifact_id)
        )

    async def find_unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """See Store.find_unknown_artifacts."""
        return await self._database.read(
            lambda db: artifact_rows.find_unknown_artifacts(db, artifact_ids)
        )

    async def find_known_generations(self, generation_ids: Sequence[str]) -> Sequence[str]:
        """See Store.find_known_generations."""
        return await self._database.read(
            lambda db: artifact_rows.find_known_generations(db, generation_ids)
        )

    async def is_empty(self) -> bool:
        """See Store.is_empty."""
        return await self._database.read(artifact_rows.is_empty)

    async def test_write(self) -> None:
        """See Store.test_write."""
        await self._database.run(operations.rewrite_header)

    async def sweep(self, now: float) -> AsyncGenerator[Sequence[str]]:
        """See Store.sweep."""
        while await self._database.run(
            lambda db: expiry.fail_overdue(db, now, self._retention_seconds),
            on_commit=self._publish,
        ):
            yield ()
        while await self._database.run(lambda db: expiry.delete_generations(db, now)):
            yield ()
        while (
            deleted := await self._database.run(lambda db: expiry.delete_artifacts(db, now))
        ) is not None:
            yield deleted
        while await self._database.run(expiry.shrink):
            yield ()

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._isolation is not None:
                self._isolation.observe(event)
            self._events.publish(event)

    def _notify_waiter(self, engine: str) -> None:
        """Wake one of the calls that wait in `claim`, now or when it comes."""
        self._queued[engine].release()
