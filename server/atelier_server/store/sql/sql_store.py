"""Stores generations in an SQL database; wakes the workers and watchers of this process in memory."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1.generation_pb2 import CancelCause, CancelOutcome, Generation, State
from atelier_server.clock import current_timestamp
from atelier_server.store import records
from atelier_server.store.cancellations import Cancellations
from atelier_server.store.events import EventBus, HeldQueues, WaitingWorkers
from atelier_server.store.isolation import Isolation, Turn
from atelier_server.store.protocol import (
    ENDED,
    CancelResult,
    Claim,
    ClaimLostError,
    Event,
    Submission,
    SubmitResult,
)
from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sql import (
    expiry,
    listing,
    moves,
    operations,
    rows,
    waiting,
    watching,
)
from atelier_server.store.sql.database import Connection, Database
from atelier_server.store.sql.operations import Claimed, Release, Submitted
from atelier_server.store.sql.queues import SqlQueues


class SqlStore(SqlQueues):
    """See protocol.Store."""

    def __init__(self, database: Database, *, retention_seconds: float) -> None:
        """Use the `open` of a database's own store, which also requeues what a process that died was running."""
        super().__init__(database, retention_seconds)
        self._events = EventBus()
        self._isolation: Isolation | None = None  # None when nothing is suspect
        self._ends_at_start: list[Event] = []
        self._workers: defaultdict[str, WaitingWorkers] = defaultdict(
            lambda: WaitingWorkers(self._release_in_background)
        )
        self._cancellations = Cancellations()
        self._releases: set[asyncio.Task[None]] = set()
        self._limits: RunningLimits | None = None
        self._held = HeldQueues(self._workers)

    async def close(self) -> None:
        """See Store.close."""
        await asyncio.gather(*self._releases)
        await self._database.close()

    async def find_by_request_id(
        self, caller: str, request_id: str, digest: bytes
    ) -> SubmitResult | None:
        """See Store.find_by_request_id."""
        find = partial(rows.find_by_request_id, caller=caller, request_id=request_id, digest=digest)
        return await self._database.read(find)

    async def find_unnamed(
        self, caller: str, digest: bytes, ended_after: float
    ) -> Sequence[SubmitResult]:
        """See Store.find_unnamed."""
        expires = ended_after + self._retention_seconds
        return await self._database.read(lambda db: listing.unnamed(db, caller, digest, expires))

    async def submit(self, submission: Submission) -> SubmitResult:
        """See Store.submit. A worker that waits gets its claim in the same transaction."""
        generation = submission.generation
        workers = self._workers[generation.engine]
        worker = workers.reserve() if self._isolation is None else None

        def work(db: Connection) -> Submitted:
            is_watched = None if worker is None else self._events.is_watched
            return operations.submit(db, submission, is_watched=is_watched, limits=self._limits)

        def on_commit(submitted: Submitted) -> None:
            event = submitted.event
            if event is not None and event.sequence == 1:
                topic.owner = submission.caller
            claim, events = submitted.claimed or (None, [])
            self._publish([event, *events] if event is not None else events)
            workers.settle(worker, claim, queued=event is not None)

        on_failure = partial(workers.settle, worker, None, queued=False)
        topic = self._events.open(generation.id)
        try:
            submitted = await self._database.start(work, on_commit=on_commit, on_failure=on_failure)
            return submitted.result
        finally:  # not before the caller has had the chance to wait for its end
            asyncio.get_running_loop().call_soon(self._events.close, generation.id)

    async def claim(self, engine: str) -> Claim:
        """See Store.claim."""
        while True:
            claim = await self._workers[engine].wait() or await self._claim_in_turn(engine)
            if claim is not None:
                return claim

    async def claim_begun(self, engine: str) -> Claim | None:
        """See Store.claim_begun."""
        return await self._claim_in_turn(engine, begun=True)

    async def _claim_in_turn(self, engine: str, *, begun: bool = False) -> Claim | None:
        """Claim the first of the queue; None if there is none, or when it may not start before others have ended."""
        if self._isolation is None:
            return await self._claim_first(engine, begun=begun)
        async with self._isolation.turn() as turn:
            claim = await self._claim_first(engine, turn, begun=begun)
        if turn.refused:
            self._workers[engine].notify()  # the generation still waits
            await turn.changed.wait()
        return claim

    async def _claim_first(
        self, engine: str, turn: Turn | None = None, *, begun: bool = False
    ) -> Claim | None:
        watched, limits = self._events.is_watched, self._limits

        def work(db: Connection) -> tuple[Claimed | None, bool]:
            claimed = operations.claim(
                db,
                engine,
                watched,
                turn,
                begun=begun,
                limits=limits,
                tells_positions=self._events.has_watchers,
            )
            return claimed, claimed is None and waiting.count(db, engine) > 0

        def on_commit(outcome: tuple[Claimed | None, bool]) -> None:
            claimed, remains = outcome
            if claimed is not None:
                self._publish(claimed[1])
                return
            self._note_empty(engine, begun=begun)
            if limits is not None and not (begun or (turn is not None and turn.refused)):
                self._held.note_empty_claim(engine, remains=remains)

        claiming = self._database.start(work, on_commit=on_commit)
        try:
            claimed, _ = await claiming
        except asyncio.CancelledError:
            if claiming.exception() is None and (unwanted := claiming.result()[0]) is not None:
                await self.release(unwanted[0], keep_remote_handle=True)
            raise
        except Exception:
            self._workers[engine].notify()  # the generation still waits
            raise
        return claimed[0] if claimed else None

    async def save_task(self, claim: Claim, generation: Generation, task: bytes) -> None:
        """See Store.save_task."""
        await self._database.run_claimed(
            lambda db: operations.save_task(db, claim, generation, task)
        )

    async def log(self, claim: Claim, events: Sequence[Event]) -> None:
        """See Store.log."""
        await self._database.run_claimed(
            lambda db: operations.log(db, claim, events), on_commit=self._events.publish_progress
        )

    def is_watched(self, generation_id: str) -> bool:
        """See Store.is_watched."""
        return self._events.is_watched(generation_id)

    async def save_remote_handle(self, claim: Claim, handle: str) -> None:
        """See Store.save_remote_handle."""
        await self._database.run_claimed(
            lambda db: operations.save_remote_handle(db, claim, handle)
        )

    async def finish(
        self,
        claim: Claim,
        generation: Generation,
        progress: Event,
        *,
        unlogged: Sequence[Event] = (),
        before: Callable[[Generation], None] | None = None,
    ) -> Generation:
        """See Store.finish."""

        def work(db: Connection) -> tuple[Generation, Sequence[Event]]:
            if before is not None:
                before(generation)
            events = [*unlogged, progress]
            return operations.finish(db, claim, generation, events, self._retention_seconds)

        def on_commit(written: tuple[Generation, Sequence[Event]]) -> None:
            self._cancellations.forget(generation.id)
            *progress, last = written[1]
            self._events.publish_progress(progress)
            self._publish([last])
            self._free_place(claim.caller)

        ended, _ = await self._database.run_claimed(work, on_commit=on_commit)
        return ended

    async def release(
        self,
        claim: Claim,
        *,
        started: Timestamp | None = None,
        keep_remote_handle: bool = False,
        cancel_outcome: CancelOutcome.ValueType = CancelOutcome.CANCEL_OUTCOME_STOPPED,
    ) -> None:
        """See Store.release."""
        release = Release(
            generation=records.list_released(claim, started, current_timestamp()),
            keep_remote_handle=keep_remote_handle,
            cancel_outcome=cancel_outcome,
        )
        try:
            await self._requeue(claim, release)
        except ClaimLostError:
            return

    async def requeue_on_engine(
        self, claim: Claim, generation: Generation, task: bytes, *, spent: float = 0.0
    ) -> None:
        """See Store.requeue_on_engine."""
        await self._requeue(claim, Release(generation=generation, task=task, spent=spent))

    async def _requeue(self, claim: Claim, release: Release) -> None:
        def on_commit(event: Event) -> None:
            self._cancellations.forget(event.generation_id)
            self._publish([event])
            if event.state == State.STATE_QUEUED:
                self._workers[event.engine].notify()
            self._free_place(claim.caller)

        await self._database.run(
            lambda db: operations.requeue(db, claim, release, self._retention_seconds),
            on_commit=on_commit,
        )

    async def move(self, before: Generation, moved: Generation, task: bytes) -> bool:
        """See Store.move."""

        def on_commit(event: Event | None) -> None:
            if event is not None:
                self._publish([event])
                self._workers[event.engine].notify()

        return (
            await self._database.run(
                lambda db: moves.move(db, before, moved, task), on_commit=on_commit
            )
            is not None
        )

    def wait_cancelled(self, claim: Claim) -> asyncio.Future[None]:
        """See Store.wait_cancelled."""
        return self._cancellations.find(claim.generation.id)

    async def cancel(
        self,
        caller: str,
        generation_id: str,
        cause: CancelCause.ValueType = CancelCause.CANCEL_CAUSE_REQUESTED,
    ) -> CancelResult:
        """See Store.cancel."""
        keep, free = self._retention_seconds, self._free_engines

        def on_commit(written: tuple[CancelResult, Event | None]) -> None:
            self._note_cancelled(generation_id, written)

        result, _ = await self._database.run(
            lambda db: operations.cancel(db, caller, generation_id, cause, keep, free_engines=free),
            on_commit=on_commit,
        )
        return result

    def _note_cancelled(
        self, generation_id: str, written: tuple[CancelResult, Event | None]
    ) -> None:
        """Tell watchers and the worker of what was cancelled."""
        result, event = written
        if event is not None:
            self._publish([event])
        if result is CancelResult.REQUESTED:
            self._cancellations.request(generation_id)

    def watch(
        self, generation_id: str, after: int, *, max_silence_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """See Store.watch."""
        return watching.watch(
            self._database, self._events, generation_id, after, max_silence_seconds
        )

    async def wait_dispatched(self, caller: str, generation_id: str) -> None:
        """See Store.wait_dispatched."""
        with self._events.subscribe(generation_id, watching=False) as topic:
            # after the writes whose events this waits for: a read beside them may see a change before its event comes
            row = await self._database.run(lambda db: rows.find(db, generation_id, caller))
            if row.record.generation.state == State.STATE_QUEUED:
                await topic.wait_dispatched()

    async def wait_ended(self, caller: str, generation_id: str) -> Generation:
        """See Store.wait_ended."""
        topic = self._events.open(generation_id)
        try:
            if topic.owner != caller:
                generation = await self.get(caller, generation_id)
                if generation.state in ENDED:
                    return generation
            return (await topic.wait_last()).generation
        finally:
            self._events.close(generation_id)

    async def get(self, caller: str, generation_id: str) -> Generation:
        """See Store.get."""
        row = await self._database.read(lambda db: rows.find(db, generation_id, caller))
        return row.record.generation

    def observe(self, observer: Callable[[Event], None], *, everywhere: bool = False) -> None:  # noqa: ARG002 (there is no other process)
        """See Store.observe."""
        for event in self._ends_at_start:
            observer(event)
        self._events.observers.append(observer)

    async def test_write(self) -> None:
        """See Store.test_write."""
        await self._database.run(self._rewrite)

    async def sweep(self, now: float) -> AsyncGenerator[Sequence[str]]:
        """See Store.sweep."""
        self._held.notify()  # other processes may have made room
        run, retention = self._database.run, self._retention_seconds
        fail = partial(expiry.fail_overdue, now=now, retention_seconds=retention)
        while await run(fail, on_commit=self._publish):
            yield ()
        while await run(partial(expiry.delete_generations, now=now)):
            yield ()
        while (deleted := await run(partial(expiry.delete_artifacts, now=now))) is not None:
            yield deleted
        while await run(self._shrink):
            yield ()

    @abstractmethod
    def _rewrite(self, db: Any) -> None:  # noqa: ANN401 (a connection of the database)
        """Write something without changing anything."""

    def _shrink(self, _: Any) -> bool:  # noqa: ANN401 (a connection of the database)
        """Give back some of the space that nothing uses; whether there is more of it."""
        return False

    def _note_empty(self, engine: str, *, begun: bool) -> None:
        """Learn that a claim has found nothing in the queue; with `begun` nothing that has a remote job."""

    def _publish(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._isolation is not None:
                self._isolation.observe(event)
                if self._isolation.over:
                    self._isolation = None
            self._events.publish(event)

    def _free_place(self, caller: str) -> None:
        if self._limits is not None and self._limits(caller) is not None:
            self._held.notify()

    def _wake_workers(self, engine: str, queued: int) -> None:
        self._workers[engine].recount(queued)

    def _release_in_background(self, claim: Claim) -> None:
        """Give back a claim that its worker does not take any more."""
        release = asyncio.create_task(self.release(claim, keep_remote_handle=True))
        self._releases.add(release)
        release.add_done_callback(self._releases.discard)
