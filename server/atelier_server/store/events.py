"""Tells those who watch a generation that its log has grown, and hands them the newest events from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from atelier_server.store.protocol import ENDED, Event

_RECENT = 32  # events kept per watched generation; whoever lags further behind reads the log


class Topic:
    """The live end of one generation's log."""

    def __init__(self) -> None:
        """Start empty; the log itself holds what came before."""
        self.holders = 0
        self.watchers = 0
        self._recent: dict[int, Event] = {}
        self._latest = 0
        self._ended = False
        self._grown = asyncio.Event()

    def publish(self, event: Event) -> None:
        """Add the newest event and wake whoever waits."""
        self._recent[event.sequence] = event
        self._recent.pop(event.sequence - _RECENT, None)
        self._latest = max(self._latest, event.sequence)
        self._ended = event.state in ENDED
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def next(self, after: int) -> Event | None:
        """The event that follows `after`, if it is still in memory."""
        return self._recent.get(after + 1)

    def exhausted(self, after: int) -> bool:
        """Whether there is, and ever will be, no event after `after`; False when that is not known here."""
        return self._ended and self._latest <= after

    async def wait_after(self, after: int) -> None:
        """Return once there is an event after `after`, or the log has ended."""
        while self._latest <= after and not self._ended:
            await self._grown.wait()

    async def wait_end(self) -> Event:
        """Wait for the last event."""
        while not self._ended:
            await self._grown.wait()
        return self._recent[self._latest]


class EventBus:
    """The feeds of all generations that anybody watches."""

    def __init__(self) -> None:
        """Start with none."""
        self._feeds: dict[str, Topic] = {}

    def publish(self, event: Event) -> None:
        """Pass the event on to the watchers of its generation."""
        if (feed := self._feeds.get(event.generation_id)) is not None:
            feed.publish(event)

    def is_watched(self, generation_id: str) -> bool:
        """Whether anybody follows the generation step by step."""
        feed = self._feeds.get(generation_id)
        return feed is not None and feed.watchers > 0

    @contextmanager
    def open(self, generation_id: str, *, watching: bool) -> Generator[Topic]:
        """The generation's feed, kept while anybody has it open; `watching` when every step matters to them."""
        feed = self._feeds.setdefault(generation_id, Topic())
        feed.holders += 1
        feed.watchers += watching
        try:
            yield feed
        finally:
            feed.holders -= 1
            feed.watchers -= watching
            if not feed.holders:
                del self._feeds[generation_id]
