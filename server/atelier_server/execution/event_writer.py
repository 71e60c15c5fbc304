"""Writes the events of an attempt in the background."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.errors import StorageError
from atelier_server.execution.attempt import Attempt
from atelier_server.store.protocol import ClaimLostError, Event, Store

_MAX_UNLOGGED_EVENTS = 16  # with more than these the engine waits for the disk
_LOG_DELAY_SECONDS = 0.1  # of events that nobody waits for


class EventWriter:
    """Writes the log in the background, so that the engine does not wait for the disk.

    Events that nobody waits for are kept back for a short time, so that several share one write, or that of the
    attempt's end. Those that come while others are written share the next write.
    """

    def __init__(self, store: Store, storage: StorageMonitor, attempt: Attempt) -> None:
        """Write under the attempt's claim; events that the storage does not take are left out."""
        self._store = store
        self._storage = storage
        self._attempt = attempt
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def write(self, event: Event) -> None:
        """Append the event in the background, in order.

        Raises:
            ClaimLostError: the claim is void; this may be raised by a later event.
        """
        unlogged = self._attempt.unlogged
        unlogged.append(event)
        if self._writing is not None and (
            self._writing.done() or len(unlogged) > _MAX_UNLOGGED_EVENTS
        ):
            await self._finish_writing()
        if (
            self._store.is_watched(self._attempt.generation.id)
            or len(unlogged) > _MAX_UNLOGGED_EVENTS
        ):
            self._start_writing()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LOG_DELAY_SECONDS, self._start_writing)

    def _start_writing(self) -> None:
        self._stop_timer()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        while events := self._attempt.unlogged:
            self._attempt.unlogged = []
            try:
                await self._store.log(self._attempt.claim, events)
            except StorageError as error:
                self._storage.report(error)

    async def _finish_writing(self) -> None:
        """Wait for what is being written.

        Raises:
            ClaimLostError: the claim is void.
        """
        if self._writing is not None:
            await asyncio.wait([self._writing])
            writing, self._writing = self._writing, None
            writing.result()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait for what is being written; what is not stays unlogged."""
        self._stop_timer()
        try:
            await self._finish_writing()
        except ClaimLostError:
            if error is None:
                raise
