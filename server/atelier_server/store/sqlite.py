"""The embedded store: one SQLite file, queues in memory, one process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from importlib.resources import files
from pathlib import Path

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import CancelOutcome, Generation, State
from atelier_server.store import rows, transitions
from atelier_server.store.contract import (
    ENDED,
    Accepted,
    Cancelling,
    Claim,
    ClaimLostError,
    Event,
    Query,
    QueueFullError,
    Submission,
)
from atelier_server.store.database import Database
from atelier_server.store.feed import Feed, Feeds


class UnusableFileError(OSError):
    """The file that generations are kept in can't be opened, or is no sound database."""


class SqliteStore:
    """See contract.Store. Only one process may have a data directory open."""

    def __init__(self, database: Database, *, time_to_live_seconds: float) -> None:
        """Use `open` instead, which also takes up what an earlier process left."""
        self._database = database
        self._time_to_live = time_to_live_seconds
        self._feeds = Feeds()
        self._arrivals: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(0)
        )
        self._cancellations: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        time_to_live_seconds: float,
        max_attempts: int,
        synchronous: str = "NORMAL",
    ) -> SqliteStore:
        """Open or create the file; generations that were running when the last process died wait again.

        One that was taken up `max_attempts` times and never ended FAILED with the reason POISONED.

        Raises:
            UnusableFileError: the file can't be opened, or is no sound database.
        """
        schema = files("atelier_server.store").joinpath("schema.sql").read_text()
        try:
            database = Database(path, schema=schema, synchronous=synchronous)
            store = cls(database, time_to_live_seconds=time_to_live_seconds)
            waiting = await database.run(
                lambda db: transitions.recover(db, store._time_to_live, max_attempts)
            )
        except sqlite3.Error as error:
            msg = f"{path} can't be used ({error}); restore it, or move it away to begin anew"
            raise UnusableFileError(msg) from error
        for pool, count in waiting.items():
            store._arrive(pool, count)
        return store

    async def close(self) -> None:
        """See Store.close."""
        await self._database.close()

    async def recall(self, caller: str, request_id: str, digest: bytes) -> Generation | None:
        """See Store.recall."""
        return await self._database.run(
            lambda db: rows.same_request(db, caller, request_id, digest)
        )

    async def submit(self, submission: Submission) -> Accepted:
        """See Store.submit."""

        def work(db: sqlite3.Connection) -> tuple[Accepted, Event | None]:
            request_id = submission.generation.request_id
            before = rows.same_request(db, submission.caller, request_id, submission.digest)
            if before is not None:
                return Accepted(generation=before, created=False), None
            ahead = rows.count_waiting(db, submission.generation.engine)
            if ahead >= submission.queue_limit:
                msg = (
                    f"{ahead} generations wait for engine {submission.generation.engine!r} already"
                )
                raise QueueFullError(msg)
            rows.insert(db, submission)
            event = rows.append(db, submission.generation, 0, Event(queue_position=ahead))
            return Accepted(generation=submission.generation, created=True), event

        def then(result: tuple[Accepted, Event | None]) -> None:
            _, event = result
            if event is not None:
                self._feeds.publish(event)
                self._arrive(submission.generation.engine)

        accepted, _ = await self._database.run(work, then=then)
        return accepted

    async def claim(self, pool: str) -> Claim:
        """See Store.claim."""
        while True:
            await self._arrivals[pool].acquire()
            taking = asyncio.ensure_future(
                self._database.run(
                    lambda db: transitions.take(db, pool, self._feeds.watched),
                    then=lambda taken: self._publish(taken[1] if taken is not None else []),
                )
            )
            try:
                taken = await asyncio.shield(taking)
            except asyncio.CancelledError:
                await self._put_back(taking)
                raise
            except Exception:
                self._arrive(pool)  # it waits still
                raise
            if taken is not None:
                return taken[0]

    async def _put_back(self, taking: asyncio.Future[tuple[Claim, list[Event]] | None]) -> None:
        taken = await taking
        if taken is not None:
            await self.release(taken[0])

    async def log(self, claim: Claim, event: Event) -> None:
        """See Store.log."""
        await self._database.run(
            lambda db: transitions.log(db, claim, event), then=self._feeds.publish
        )

    async def dispatched(self, claim: Claim, handle: str) -> None:
        """See Store.dispatched."""
        await self._database.run(lambda db: transitions.dispatched(db, claim, handle))

    async def finish(self, claim: Claim, generation: Generation) -> None:
        """See Store.finish."""

        def then(event: Event) -> None:
            self._cancellations.pop(generation.id, None)
            self._feeds.publish(event)

        await self._database.run(
            lambda db: transitions.finish(db, claim, generation, self._time_to_live), then=then
        )

    async def release(self, claim: Claim, *, keep_handle: bool = False) -> None:
        """See Store.release."""
        generation = Generation()
        generation.CopyFrom(claim.generation)
        try:
            await self._queue_again(claim, generation, claim.attempt - 1, keep_handle=keep_handle)
        except ClaimLostError:
            return

    async def hand_over(self, claim: Claim, generation: Generation) -> None:
        """See Store.hand_over."""
        await self._queue_again(claim, generation, claim.attempt, keep_handle=False)

    async def _queue_again(
        self, claim: Claim, generation: Generation, attempt: int, *, keep_handle: bool
    ) -> None:
        def then(event: Event) -> None:
            self._cancellations.pop(generation.id, None)
            self._feeds.publish(event)
            if event.state == State.STATE_QUEUED:
                self._arrive(generation.engine)

        await self._database.run(
            lambda db: transitions.queue_again(
                db,
                claim,
                generation,
                attempt=attempt,
                time_to_live=self._time_to_live,
                keep_handle=keep_handle,
            ),
            then=then,
        )

    async def cancelled(self, claim: Claim) -> None:
        """See Store.cancelled."""
        await self._cancellations[claim.generation.id].wait()

    async def cancel(self, caller: str, generation_id: str) -> Cancelling:
        """See Store.cancel."""

        def work(db: sqlite3.Connection) -> tuple[Cancelling, Event | None]:
            row = rows.find(db, generation_id, caller)
            if row.state in ENDED:
                return Cancelling.TOO_LATE, None
            if row.state == State.STATE_RUNNING:
                db.execute("UPDATE generations SET cancelling = 1 WHERE id = ?", (row.id,))
                return Cancelling.REQUESTED, None
            generation = row.generation
            generation.state = State.STATE_CANCELLED
            generation.cancel_outcome = CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
            return Cancelling.NEVER_STARTED, transitions.end(
                db, row, generation, self._time_to_live
            )

        def then(result: tuple[Cancelling, Event | None]) -> None:
            found, event = result
            if event is not None:
                self._feeds.publish(event)
            if found is Cancelling.REQUESTED:
                self._cancellations[generation_id].set()

        found, _ = await self._database.run(work, then=then)
        return found

    async def watch(self, generation_id: str, after: int) -> AsyncGenerator[Event]:
        """See Store.watch."""
        with self._feeds.open(generation_id, watching=True) as feed:
            row = await self._database.run(lambda db: rows.find(db, generation_id))
            if row.state in ENDED and row.sequence <= after:
                return
            while True:
                for event in await self._next(feed, generation_id, after):
                    yield event
                    after = event.sequence
                    if event.state in ENDED:
                        return
                if feed.over(after):
                    return
                await feed.beyond(after)

    async def _next(self, feed: Feed, generation_id: str, after: int) -> list[Event]:
        if (event := feed.next(after)) is not None:
            return [event]

        def work(db: sqlite3.Connection) -> list[Event]:
            rows.find(db, generation_id)
            return rows.events_after(db, generation_id, after)

        return await self._database.run(work)

    async def ended(self, caller: str, generation_id: str) -> Generation:
        """See Store.ended."""
        with self._feeds.open(generation_id, watching=False) as feed:
            row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
            if row.state in ENDED:
                return row.generation
            ended = Generation()
            ended.CopyFrom((await feed.end()).generation)
            return ended

    async def get(self, caller: str, generation_id: str) -> Generation:
        """See Store.get."""
        row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
        return row.generation

    async def list(self, query: Query) -> Sequence[Generation]:
        """See Store.list."""
        return await self._database.run(lambda db: rows.search(db, query))

    async def queued(self, pool: str) -> int:
        """See Store.queued."""
        return await self._database.run(lambda db: rows.count_waiting(db, pool))

    async def spent_today(self, engine: str) -> float:
        """See Store.spent_today."""
        return await self._database.run(lambda db: rows.spent_today(db, engine))

    async def add_artifact(self, caller: str, artifact: Artifact) -> None:
        """See Store.add_artifact."""
        await self._database.run(lambda db: rows.add_artifacts(db, caller, [artifact]))

    async def artifact(self, caller: str, artifact_id: str) -> Artifact:
        """See Store.artifact."""
        return await self._database.run(lambda db: rows.find_artifact(db, caller, artifact_id))

    async def unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """See Store.unknown_artifacts."""
        return await self._database.run(lambda db: rows.unknown_artifacts(db, artifact_ids))

    async def sweep(self, now: float) -> Sequence[str]:
        """See Store.sweep."""
        _, gone = await self._database.run(
            lambda db: transitions.sweep(db, now, self._time_to_live),
            then=lambda swept: self._publish(swept[0]),
        )
        return gone

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self._feeds.publish(event)

    def _arrive(self, pool: str, count: int = 1) -> None:
        for _ in range(count):
            self._arrivals[pool].release()
