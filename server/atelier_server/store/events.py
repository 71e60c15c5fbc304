"""Wakes, within this process, those who watch a generation and those who wait for one to execute; counts what ends.

Watchers get the newest events of the log from memory; a worker that waits gets its claim from the submission itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from atelier.v1.generation_pb2 import (
    STATE_QUEUED,
)
from atelier_server.metrics import (
    WATCHERS,
)
from atelier_server.store.protocol import ENDED, Claim, Event

_MAX_RECENT = 32  # events kept per watched generation; whoever is further behind reads the log


class Topic:
    """The newest events of one generation."""

    def __init__(self) -> None:
        """Start without events; the log has the earlier ones."""
        self.subscribers = 0
        self.watchers = 0
        self.owner = ""
        """The caller that owns the generation, if all of its events have come here; else empty."""
        self._recent: dict[int, Event] = {}
        self._latest = 0
        self._ended = False
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._awaiting_end: dict[asyncio.Future[None], None] = {}

    def publish(self, event: Event) -> None:
        """Add the newest event and wake whoever waits."""
        self._recent[event.sequence] = event
        self._recent.pop(event.sequence - _MAX_RECENT, None)
        if event.sequence >= self._latest:  # else it was written before one that has come already
            self._latest = event.sequence
            self._ended = event.state in ENDED
        waiting, self._waiting = self._waiting, {}
        _wake(waiting)
        if self._ended:
            waiting, self._awaiting_end = self._awaiting_end, {}
            _wake(waiting)

    @property
    def latest(self) -> int:
        """Number of the newest event that has come here; 0 for none."""
        return self._latest

    def next(self, after: int) -> Event | None:
        """The event that follows number `after`, if it is still in memory."""
        return self._recent.get(after + 1)

    def exhausted(self, after: int) -> bool:
        """Whether there is, and ever will be, no event after number `after`; False when that is not known here."""
        return self._ended and self._latest <= after

    def has_news(self, after: int) -> bool:
        """Whether there is an event after number `after`, or the log has ended."""
        return self._latest > after or self._ended

    def start_waiting(self) -> asyncio.Future[None]:
        """Done at the next event; to be passed to `stop_waiting` after all."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        return waiter

    def stop_waiting(self, waiter: asyncio.Future[None]) -> None:
        """Forget what `start_waiting` returned."""
        self._waiting.pop(waiter, None)

    async def wait_dispatched(self) -> None:
        """Wait for an event of a generation that is in no queue."""
        while not self._latest or self._recent[self._latest].state == STATE_QUEUED:
            waiter = self.start_waiting()
            try:
                await waiter
            finally:
                self.stop_waiting(waiter)

    async def wait_last(self) -> Event:
        """Wait for the last event of the log; the others wake nobody who waits here."""
        while not self._ended:
            waiter = asyncio.get_running_loop().create_future()
            self._awaiting_end[waiter] = None
            try:
                await waiter
            finally:
                self._awaiting_end.pop(waiter, None)
        return self._recent[self._latest]


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(None)


class Watcher:
    """Waits for the events of a topic, or until it has been silent for some time.

    One timer serves for many events: it starts anew only when it has run out too early. 200 watchers of one generation
    would set and cancel 200 timers at every event.
    """

    def __init__(self, topic: Topic, max_silence_seconds: float | None) -> None:
        """Watch the topic; None for any silence."""
        self._topic = topic
        self._max_silence_seconds = max_silence_seconds
        self._loop = asyncio.get_running_loop()
        self._silent_since = 0.0
        self._silent = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def wait_after(self, after: int) -> bool:
        """Wait for an event after number `after`, or the end of the log; False when the silence has lasted too long."""
        self._silent_since = self._loop.time()
        if self._timer is None and self._max_silence_seconds is not None:
            self._timer = self._loop.call_later(self._max_silence_seconds, self._check)
        self._silent = False
        while not (self._topic.has_news(after) or self._silent):
            self._waiter = self._topic.start_waiting()
            try:
                await self._waiter
            finally:
                self._topic.stop_waiting(self._waiter)
        return self._topic.has_news(after)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        """Start the timer anew for what is left of the silence; wake the watcher if nothing is."""
        self._timer = None
        left = self._silent_since + (self._max_silence_seconds or 0.0) - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
            return
        self._silent = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def repeat(event: Event) -> Event:
    """The event again, for those who watch while nothing happens; it is never stored."""
    repetition = Event()
    repetition.CopyFrom(event)
    repetition.repetition = True
    repetition.ClearField("preview")
    return repetition


class EventBus:
    """Carries events from whoever writes the log to the subscribers of a generation, within this process."""

    def __init__(self) -> None:
        """Start without subscribers."""
        self._topics: dict[str, Topic] = {}
        self._watching = 0
        self.observers: list[Callable[[Event], None]] = []
        """Called with every event but those of progress."""

    def publish(self, event: Event) -> None:
        """Pass the event on to the observers, and to the subscribers of its generation."""
        for observe in self.observers:
            observe(event)
        self.publish_progress([event])

    def publish_progress(self, events: Sequence[Event]) -> None:
        """Pass events of one generation that leave its state as it is on to its subscribers alone."""
        topic = self._topics.get(events[0].generation_id) if events else None
        if topic is not None:
            for event in events:
                topic.publish(event)

    @property
    def has_watchers(self) -> bool:
        """Whether anybody follows every event of any generation."""
        return self._watching > 0

    def is_watched(self, generation_id: str) -> bool:
        """Whether anybody follows every event of the generation."""
        topic = self._topics.get(generation_id)
        return topic is not None and topic.watchers > 0

    @contextmanager
    def subscribe(self, generation_id: str, *, watching: bool) -> Generator[Topic]:
        """The generation's topic, kept inside the context; `watching` when the subscriber follows every event."""
        topic = self.open(generation_id)
        topic.watchers += watching
        self._watching += watching
        WATCHERS.inc(watching)
        try:
            yield topic
        finally:
            topic.watchers -= watching
            self._watching -= watching
            WATCHERS.dec(watching)
            self.close(generation_id)

    def find_latest(self, generation_id: str) -> int | None:
        """Number of the newest event that the subscribers of the generation have; None if it has no subscribers."""
        topic = self._topics.get(generation_id)
        return None if topic is None else topic.latest

    def list_followed(self) -> list[str]:
        """Ids of the generations that have subscribers."""
        return list(self._topics)

    def open(self, generation_id: str) -> Topic:
        """The generation's topic, kept until as many calls of `close` as of this."""
        topic = self._topics.setdefault(generation_id, Topic())
        topic.subscribers += 1
        return topic

    def close(self, generation_id: str) -> None:
        """Need the topic no longer."""
        topic = self._topics[generation_id]
        topic.subscribers -= 1
        if not topic.subscribers:
            del self._topics[generation_id]


Worker: TypeAlias = "asyncio.Future[Claim | None]"
"""A worker that waits: it is given a claim, or woken with None to claim for itself."""


class WaitingWorkers:
    """The workers that wait for a generation in one engine's queue, and the generations that wait for a worker."""

    def __init__(self, on_unwanted: Callable[[Claim], None], *, queued: int = 0) -> None:
        """Start with so many generations in the queue, and no worker.

        A claim for a worker that has stopped meanwhile goes to `on_unwanted`.
        """
        self._on_unwanted = on_unwanted
        self._unclaimed = queued
        self._workers: deque[Worker] = deque()

    async def wait(self) -> Claim | None:
        """Wait for a generation: the claim on it, or None for the worker to claim one."""
        if self._unclaimed:
            self._unclaimed -= 1
            return None
        worker: Worker = asyncio.get_running_loop().create_future()
        self._workers.append(worker)
        try:
            return await worker
        except asyncio.CancelledError:
            if not worker.cancelled():  # it was woken at the same moment
                self.settle(None, worker.result(), queued=True)
            raise

    def notify(self) -> None:
        """Say that one more generation waits: the worker that waits longest claims it, or the next that comes."""
        if (worker := self.reserve()) is None:
            self._unclaimed += 1
        else:
            worker.set_result(None)

    def wake(self, queued: int) -> None:
        """Have as many workers that wait look into the queue, which has so many generations; count none of these."""
        for _ in range(min(queued, len(self._workers))):
            if (worker := self.reserve()) is not None:
                worker.set_result(None)

    def forget_unclaimed(self) -> None:
        """Say that no worker can claim what waits now, so that none tries before `notify`."""
        self._unclaimed = 0

    def recount(self, queued: int) -> None:
        """Say how many generations wait, of which workers have seen none."""
        self._unclaimed = 0
        for _ in range(queued):
            self.notify()

    def reserve(self) -> Worker | None:
        """The worker that waits longest; None if none waits. `settle` says what becomes of it."""
        while self._workers:
            worker = self._workers.popleft()
            if not worker.done():
                return worker
        return None

    def settle(self, worker: Worker | None, claim: Claim | None, *, queued: bool) -> None:
        """Give a reserved worker the claim; without one, let it wait on, and `notify` if a generation was `queued`."""
        if claim is not None and (worker is None or worker.done()):
            self._on_unwanted(claim)
        elif claim is not None and worker is not None:
            worker.set_result(claim)
        elif worker is not None and not worker.done():
            self._workers.appendleft(worker)
        if claim is None and (queued or self._unclaimed):
            self._unclaimed -= not queued
            self.notify()


class HeldQueues:
    """The engines where all that waits belongs to callers who have as much running as they may."""

    def __init__(self, workers: Mapping[str, WaitingWorkers]) -> None:
        """Start with none; `workers` are those of each engine."""
        self._workers = workers
        self._engines: dict[
            str, None
        ] = {}  # who came first is woken first, so that engines take turns

    def note_empty_claim(self, engine: str, *, remains: bool) -> None:
        """Say that nothing in the engine's queue can be claimed now, though something `remains` there, or nothing.

        Until `notify`, or until more comes, its workers do not try again.
        """
        self._engines.pop(engine, None)
        if remains:
            self._engines[engine] = None
            self._workers[engine].forget_unclaimed()

    def notify(self) -> None:
        """Say that one generation of a caller with a limit runs no longer: one worker of each engine tries to claim."""
        for engine in self._engines:
            self._workers[engine].notify()
