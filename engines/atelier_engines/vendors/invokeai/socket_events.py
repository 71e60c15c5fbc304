"""Receives an InvokeAI server's events over Socket.IO. Without them, items are polled.

The server repeats no event after a broken connection, and bulk operations send none per item, so an
event about an item's status only triggers a poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

import aiohttp
import httpx2
import socketio
from pydantic import ValidationError
from socketio.exceptions import SocketIOError

from atelier_engines.connections import ssl_context
from atelier_engines.vendors.invokeai.api import QUEUE
from atelier_engines.vendors.invokeai.schemas import SocketEvent

_log = logging.getLogger(__name__)
_PROGRESS_EVENTS = ("invocation_started", "invocation_progress")
_STATUS_EVENTS = ("queue_item_status_changed", "invocation_error")
_BULK_EVENTS = ("queue_items_canceled", "queue_cleared")
_MAX_QUEUED_EVENTS = 100
_CONNECT_SECONDS = 5.0
_CLOSE_TIMEOUT_SECONDS = 2.0
_MIN_BACKOFF_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 30.0


class BatchEvents:
    """Queue of events about one batch."""

    def __init__(self) -> None:
        self._events: deque[SocketEvent | None] = deque(maxlen=_MAX_QUEUED_EVENTS)
        self._arrived = asyncio.Event()

    def put(self, event: SocketEvent | None) -> None:
        """Add an event; None triggers a poll."""
        self._events.append(event)
        self._arrived.set()

    def list_pending(self, item_id: int) -> list[SocketEvent]:
        """List the events about that item that were not received yet."""
        return [one for one in self._events if one is not None and one.item_id == item_id]

    async def receive(self, item_id: int, timeout_seconds: float) -> SocketEvent | None:
        """Return the next event about that item; None if it is time to poll, or no event arrives in time.

        Events about other items of the batch are kept.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while True:
                    for index, event in enumerate(self._events):
                        if event is None or event.item_id == item_id:
                            del self._events[index]
                            return event
                    self._arrived.clear()
                    await self._arrived.wait()
        return None


class EventFeed:
    """One socket for all tasks of an engine, connected while there are any."""

    def __init__(self, url: httpx2.URL, token: Callable[[], str], *, delay_scale: float) -> None:
        """Connect to nothing yet; `url` is the server's, `token` returns the current one, empty for none."""
        self._root = str(url.copy_with(path="/"))
        self._path = f"{url.path.strip('/')}/ws/socket.io"
        self._token = token
        self._delay_scale = delay_scale
        self._batches: dict[str, BatchEvents] = {}
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether the socket is connected."""
        return self._connection is not None and self._connection.up

    @asynccontextmanager
    async def subscribe(self, batch_id: str) -> AsyncIterator[BatchEvents]:
        """Receive the batch's events inside the context; it is entered once the first connection attempt is over."""
        events = self._batches[batch_id] = BatchEvents()
        if self._connection is None:
            self._connection = _Connection(self._keep_connected)
        try:
            await self._connection.first_try_over.wait()
            yield events
        finally:
            del self._batches[batch_id]
            if not self._batches and self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.close()

    async def _keep_connected(self, connection: _Connection) -> None:
        pause = _MIN_BACKOFF_SECONDS
        while True:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS) as limit:
                    await self._connect_once(connection, limit)
                pause = _MIN_BACKOFF_SECONDS
            except (SocketIOError, OSError, ValueError) as error:
                _log.debug("invokeai_socket_lost", extra={"error": str(error)})
            finally:
                connection.up = False
            await asyncio.sleep(pause * self._delay_scale)
            pause = min(2 * pause, _MAX_BACKOFF_SECONDS)

    async def _connect_once(self, connection: _Connection, limit: asyncio.Timeout) -> None:
        """Connect within the limit, and return when the connection has ended."""
        connector = aiohttp.TCPConnector(ssl=ssl_context())
        async with aiohttp.ClientSession(connector=connector) as session:
            client = self._create_client(session)
            ended = asyncio.Event()
            client.on("disconnect", lambda *_: ended.set())
            try:
                await client.connect(
                    self._root,
                    auth={"token": self._token()},
                    socketio_path=self._path,
                    # A connection whose upgrade from polling was cancelled can no longer be closed.
                    transports=["websocket"],
                    wait_timeout=_CONNECT_SECONDS,
                )
                await client.call("subscribe_queue", {"queue_id": QUEUE}, timeout=_CONNECT_SECONDS)
                limit.reschedule(None)
                connection.up = True
                connection.first_try_over.set()
                self._wake_all()
                await ended.wait()
            finally:
                connection.first_try_over.set()
                await _run_shielded(client.disconnect())

    def _create_client(self, session: aiohttp.ClientSession) -> socketio.AsyncClient:
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False, http_session=session)
        for event in _PROGRESS_EVENTS:
            client.on(event, partial(self._receive, is_progress=True))
        for event in _STATUS_EVENTS:
            client.on(event, partial(self._receive, is_progress=False))
        for event in _BULK_EVENTS:
            client.on(event, lambda *_: self._wake_all())
        return client

    def _receive(self, data: object, *, is_progress: bool) -> None:
        if not isinstance(data, Mapping):
            return
        events = self._batches.get(str(data.get("batch_id")))
        if events is None:
            return
        try:
            events.put(SocketEvent.model_validate(data) if is_progress else None)
        except ValidationError:
            _log.debug("invokeai_event_invalid")

    def _wake_all(self) -> None:
        for events in self._batches.values():
            events.put(None)


class _Connection:
    """A connection, and the asyncio task that keeps it connected."""

    def __init__(self, keep: Callable[[_Connection], Coroutine[None, None, None]]) -> None:
        self.up = False
        self.first_try_over = asyncio.Event()
        self._task = asyncio.create_task(keep(self))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_CLOSE_TIMEOUT_SECONDS)


async def _run_shielded(work: Coroutine[None, None, None]) -> None:
    """Finish the work even if cancelled: a connection that is closed only in part stays open."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
