"""Stores generations in one SQLite file, for one process; wakes workers and watchers in memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from importlib.resources import files
from pathlib import Path

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import CancelOutcome, Generation, State
from atelier_server.errors import DatabaseUnusableError, QueueFullError
from atelier_server.store.events import EventBus, Topic
from atelier_server.store.protocol import (
    ENDED,
    CancelResult,
    Claim,
    ClaimLostError,
    Event,
    Query,
    Submission,
    SubmitResult,
)
from atelier_server.store.sqlite import rows, transitions
from atelier_server.store.sqlite.database import Database


class SqliteStore:
    """See protocol.Store. Only one process may have a data directory open."""

    def __init__(self, database: Database, *, retention_seconds: float) -> None:
        """Use `open` instead, which also takes up what an earlier process left."""
        self._database = database
        self._retention_seconds = retention_seconds
        self._events = EventBus()
        self._arrivals: defaultdict[str, asyncio.Semaphore] = defaultdict(
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
    ) -> SqliteStore:
        """Open or create the file; generations that were running when the last process died wait again.

        One that was taken up `max_attempts` times and never ended FAILED with the reason POISONED.

        Raises:
            UnusableFileError: the file can't be opened, or is damaged.
        """
        schema = files("atelier_server.store.sqlite").joinpath("schema.sql").read_text()
        try:
            database = Database(path, schema=schema, synchronous=synchronous)
            store = cls(database, retention_seconds=retention_seconds)
            waiting = await database.run(
                lambda db: transitions.recover(db, store._retention_seconds, max_attempts)
            )
        except sqlite3.Error as error:
            msg = f"{path} can't be used ({error}); restore it, or move it away to begin anew"
            raise DatabaseUnusableError(msg) from error
        for engine, count in waiting.items():
            store._notify_waiters(engine, count)
        return store

    async def close(self) -> None:
        """See Store.close."""
        await self._database.close()

    async def find_by_request_id(
        self, caller: str, request_id: str, digest: bytes
    ) -> Generation | None:
        """See Store.find_by_request_id."""
        return await self._database.run(
            lambda db: rows.find_by_request_id(db, caller, request_id, digest)
        )

    async def submit(self, submission: Submission) -> SubmitResult:
        """See Store.submit."""

        def work(db: sqlite3.Connection) -> tuple[SubmitResult, Event | None]:
            request_id = submission.generation.request_id
            before = rows.find_by_request_id(db, submission.caller, request_id, submission.digest)
            if before is not None:
                return SubmitResult(generation=before, created=False), None
            ahead = rows.count_waiting(db, submission.generation.engine)
            if ahead >= submission.queue_limit:
                msg = (
                    f"{ahead} generations wait for engine {submission.generation.engine!r} already"
                )
                raise QueueFullError(msg)
            rows.insert(db, submission)
            event = rows.append(db, submission.generation, 0, Event(queue_position=ahead))
            return SubmitResult(generation=submission.generation, created=True), event

        def on_commit(result: tuple[SubmitResult, Event | None]) -> None:
            _, event = result
            if event is not None:
                self._events.publish(event)
                self._notify_waiters(submission.generation.engine)

        accepted, _ = await self._database.run(work, on_commit=on_commit)
        return accepted

    async def claim(self, engine: str) -> Claim:
        """See Store.claim."""
        while True:
            await self._arrivals[engine].acquire()
            taking = asyncio.ensure_future(
                self._database.run(
                    lambda db: transitions.claim(db, engine, self._events.is_watched),
                    on_commit=lambda taken: self._publish(taken[1] if taken is not None else []),
                )
            )
            try:
                taken = await asyncio.shield(taking)
            except asyncio.CancelledError:
                await self._release_unwanted(taking)
                raise
            except Exception:
                self._notify_waiters(engine)  # it waits still
                raise
            if taken is not None:
                return taken[0]

    async def _release_unwanted(
        self, taking: asyncio.Future[tuple[Claim, list[Event]] | None]
    ) -> None:
        taken = await taking
        if taken is not None:
            await self.release(taken[0])

    async def save_task(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """See Store.save_task."""
        await self._database.run(lambda db: transitions.save_task(db, claim, generation, task))

    async def log(self, claim: Claim, event: Event) -> None:
        """See Store.log."""
        await self._database.run(
            lambda db: transitions.log(db, claim, event), on_commit=self._events.publish
        )

    async def save_remote_handle(self, claim: Claim, handle: str) -> None:
        """See Store.save_remote_handle."""
        await self._database.run(lambda db: transitions.save_remote_handle(db, claim, handle))

    async def finish(self, claim: Claim, generation: Generation, progress: Event) -> None:
        """See Store.finish."""

        def on_commit(event: Event) -> None:
            self._cancellations.pop(generation.id, None)
            self._events.publish(event)

        await self._database.run(
            lambda db: transitions.finish(db, claim, generation, progress, self._retention_seconds),
            on_commit=on_commit,
        )

    async def release(self, claim: Claim, *, keep_remote_handle: bool = False) -> None:
        """See Store.release."""
        generation = Generation()
        generation.CopyFrom(claim.generation)
        try:
            await self._requeue(
                claim, generation, claim.attempt - 1, keep_remote_handle=keep_remote_handle
            )
        except ClaimLostError:
            return

    async def requeue_on_engine(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """See Store.requeue_on_engine."""
        await self._requeue(claim, generation, claim.attempt, keep_remote_handle=False, task=task)

    async def _requeue(
        self,
        claim: Claim,
        generation: Generation,
        attempt: int,
        *,
        keep_remote_handle: bool,
        task: bytes | None = None,
    ) -> None:
        def on_commit(event: Event) -> None:
            self._cancellations.pop(generation.id, None)
            self._events.publish(event)
            if event.state == State.STATE_QUEUED:
                self._notify_waiters(generation.engine)

        await self._database.run(
            lambda db: transitions.requeue(
                db,
                claim,
                generation,
                attempt=attempt,
                retention_seconds=self._retention_seconds,
                keep_remote_handle=keep_remote_handle,
                task=task,
            ),
            on_commit=on_commit,
        )

    async def wait_cancelled(self, claim: Claim) -> None:
        """See Store.wait_cancelled."""
        await self._cancellations[claim.generation.id].wait()

    async def cancel(self, caller: str, generation_id: str) -> CancelResult:
        """See Store.cancel."""

        def work(db: sqlite3.Connection) -> tuple[CancelResult, Event | None]:
            row = rows.find(db, generation_id, caller)
            if row.state in ENDED:
                return CancelResult.TOO_LATE, None
            if row.state == State.STATE_RUNNING:
                db.execute("UPDATE generations SET cancel_requested = 1 WHERE id = ?", (row.id,))
                return CancelResult.REQUESTED, None
            generation = row.generation
            generation.state = State.STATE_CANCELLED
            generation.cancel_outcome = CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
            return CancelResult.NEVER_STARTED, transitions.end(
                db, row, generation, self._retention_seconds
            )

        def on_commit(result: tuple[CancelResult, Event | None]) -> None:
            found, event = result
            if event is not None:
                self._events.publish(event)
            if found is CancelResult.REQUESTED:
                self._cancellations[generation_id].set()

        found, _ = await self._database.run(work, on_commit=on_commit)
        return found

    async def watch(self, generation_id: str, after: int) -> AsyncGenerator[Event]:
        """See Store.watch."""
        with self._events.open(generation_id, watching=True) as topic:
            row = await self._database.run(lambda db: rows.find(db, generation_id))
            if row.state in ENDED and row.sequence <= after:
                return
            while True:
                for event in await self._next(topic, generation_id, after):
                    yield event
                    after = event.sequence
                    if event.state in ENDED:
                        return
                if topic.exhausted(after):
                    return
                await topic.wait_after(after)

    async def _next(self, topic: Topic, generation_id: str, after: int) -> list[Event]:
        if (event := topic.next(after)) is not None:
            return [event]

        def work(db: sqlite3.Connection) -> list[Event]:
            rows.find(db, generation_id)
            return rows.events_after(db, generation_id, after)

        return await self._database.run(work)

    async def wait_ended(self, caller: str, generation_id: str) -> Generation:
        """See Store.wait_ended."""
        with self._events.open(generation_id, watching=False) as topic:
            row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
            if row.state in ENDED:
                return row.generation
            ended = Generation()
            ended.CopyFrom((await topic.wait_end()).generation)
            return ended

    async def get(self, caller: str, generation_id: str) -> Generation:
        """See Store.get."""
        row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
        return row.generation

    async def list(self, query: Query) -> Sequence[Generation]:
        """See Store.list."""
        return await self._database.run(lambda db: rows.search(db, query))

    async def queue_depth(self, engine: str) -> int:
        """See Store.queue_depth."""
        return await self._database.run(lambda db: rows.count_waiting(db, engine))

    async def spent_today(self, engine: str) -> float:
        """See Store.spent_today."""
        return await self._database.run(lambda db: rows.spent_today(db, engine))

    async def add_artifact(self, caller: str, artifact: Artifact) -> None:
        """See Store.add_artifact."""
        await self._database.run(lambda db: rows.add_artifacts(db, caller, [artifact]))

    async def get_artifact(self, caller: str, artifact_id: str) -> Artifact:
        """See Store.get_artifact."""
        return await self._database.run(lambda db: rows.find_artifact(db, caller, artifact_id))

    async def find_unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """See Store.find_unknown_artifacts."""
        return await self._database.run(lambda db: rows.unknown_artifacts(db, artifact_ids))

    async def sweep(self, now: float) -> Sequence[str]:
        """See Store.sweep."""
        _, gone = await self._database.run(
            lambda db: transitions.sweep(db, now, self._retention_seconds),
            on_commit=lambda swept: self._publish(swept[0]),
        )
        return gone

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._events.publish(event)

    def _notify_waiters(self, engine: str, count: int = 1) -> None:
        for _ in range(count):
            self._arrivals[engine].release()
