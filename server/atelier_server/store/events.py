"""Wakes those who watch a generation when its log has grown, and gives them the newest events from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

from atelier.v1.generation_pb2 import State
from atelier_server.store.protocol import ENDED, Event

_MAX_RECENT = 32  # events kept per watched generation; whoever is further behind reads the log


class Topic:
    """The newest events of one generation."""

    def __init__(self) -> None:
        """Start without events; the log has the earlier ones."""
        self.subscribers = 0
        self.watchers = 0
        self._recent: dict[int, Event] = {}
        self._latest = 0
        self._ended = False
        self._changed = asyncio.Event()

    def publish(self, event: Event) -> None:
        """Add the newest event and wake whoever waits."""
        self._recent[event.sequence] = event
        self._recent.pop(event.sequence - _MAX_RECENT, None)
        self._latest = max(self._latest, event.sequence)
        self._ended = event.state in ENDED
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def next(self, after: int) -> Event | None:
        """The event that follows number `after`, if it is still in memory."""
        return self._recent.get(after + 1)

    def exhausted(self, after: int) -> bool:
        """Whether there is, and ever will be, no event after number `after`; False when that is not known here."""
        return self._ended and self._latest <= after

    async def wait_after(self, after: int, timeout_seconds: float | None) -> bool:
        """Wait for an event after number `after`, or the end of the log; False when the time has passed first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._latest <= after and not self._ended:
                    await self._changed.wait()
        return self._latest > after or self._ended

    async def wait_dispatched(self) -> None:
        """Wait for an event of a generation that is in no queue."""
        while not self._latest or self._recent[self._latest].state == State.STATE_QUEUED:
            await self._changed.wait()

    async def wait_last(self) -> Event:
        """Wait for the last event of the log."""
        while not self._ended:
            await self._changed.wait()
        return self._recent[self._latest]


class EventBus:
    """Carries events from whoever writes the log to the subscribers of a generation, within this process."""

    def __init__(self) -> None:
        """Start without subscribers."""
        self._topics: dict[str, Topic] = {}
        self.observers: list[Callable[[Event], None]] = []
        """Called with every event."""

    def publish(self, event: Event) -> None:
        """Pass the event on to the observers, and to the subscribers of its generation."""
        for observe in self.observers:
            observe(event)
        if (topic := self._topics.get(event.generation_id)) is not None:
            topic.publish(event)

    def is_watched(self, generation_id: str) -> bool:
        """Whether anybody follows every event of the generation."""
        topic = self._topics.get(generation_id)
        return topic is not None and topic.watchers > 0

    @contextmanager
    def subscribe(self, generation_id: str, *, watching: bool) -> Generator[Topic]:
        """The generation's topic, kept inside the context; `watching` when the subscriber follows every event."""
        topic = self._topics.setdefault(generation_id, Topic())
        topic.subscribers += 1
        topic.watchers += watching
        try:
            yield topic
        finally:
            topic.subscribers -= 1
            topic.watchers -= watching
            if not topic.subscribers:
                del self._topics[generation_id]
