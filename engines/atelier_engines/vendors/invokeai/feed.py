"""Hears over Socket.IO what happens on an InvokeAI server. Work goes on without it, by polling.

Nothing is replayed after a broken connection and bulk operations skip events, so an event about an
item's status only says that it is time to ask for it.
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

from atelier_engines.vendors.invokeai.server import QUEUE
from atelier_engines.vendors.invokeai.wire import Heard

_log = logging.getLogger(__name__)
_NEWS = ("invocation_started", "invocation_progress")
_ENDINGS = ("queue_item_status_changed", "invocation_error")
_SWEEPS = ("queue_items_canceled", "queue_cleared")
_MOST_HEARD = 100
_CONNECT_SECONDS = 5.0
_GOODBYE_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class Listener:
    """Hears about one batch."""

    def __init__(self) -> None:
        self._heard: deque[Heard | None] = deque(maxlen=_MOST_HEARD)
        self._bell = asyncio.Event()

    def hear(self, news: Heard | None) -> None:
        """Take in what happened; None says that it is time to ask the server."""
        self._heard.append(news)
        self._bell.set()

    def rest(self, item_id: int) -> list[Heard]:
        """What has happened to that item and was not asked for yet."""
        return [news for news in self._heard if news is not None and news.item_id == item_id]

    async def next(self, item_id: int, seconds: float) -> Heard | None:
        """What happened next to that item; None when it is time to ask the server, or after so much silence.

        What happened to other items of the batch is kept for later.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    for index, news in enumerate(self._heard):
                        if news is None or news.item_id == item_id:
                            del self._heard[index]
                            return news
                    self._bell.clear()
                    await self._bell.wait()
        return None


class Feed:
    """One connection for all tasks of an engine, held while there are any."""

    def __init__(self, url: httpx2.URL, token: Callable[[], str], *, delay_scale: float) -> None:
        """Connect to nothing yet; `url` is the server's, `token` gives the latest one, empty for none."""
        self._root = str(url.copy_with(path="/"))
        self._path = f"{url.path.strip('/')}/ws/socket.io"
        self._token = token
        self._delay_scale = delay_scale
        self._listeners: dict[str, Listener] = {}
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether events can come."""
        return self._connection is not None and self._connection.up

    @asynccontextmanager
    async def listening(self, batch_id: str) -> AsyncIterator[Listener]:
        """Hear about that batch until the block ends; begins when the first try to connect is over."""
        listener = self._listeners[batch_id] = Listener()
        if self._connection is None:
            self._connection = _Connection(self._keep_connected)
        try:
            await self._connection.tried.wait()
            yield listener
        finally:
            del self._listeners[batch_id]
            if not self._listeners and self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.close()

    async def _keep_connected(self, connection: _Connection) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS) as patience:
                    await self._connect_once(connection, patience)
                pause = _FIRST_PAUSE_SECONDS
            except (SocketIOError, OSError, ValueError) as error:
                _log.debug("no events from invokeai: %s", error)
            finally:
                connection.up = False
            await asyncio.sleep(pause * self._delay_scale)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _connect_once(self, connection: _Connection, patience: asyncio.Timeout) -> None:
        """Connect while the patience lasts, and return when the connection has ended."""
        async with aiohttp.ClientSession() as session:
            client = self._client(session)
            ended = asyncio.Event()
            client.on("disconnect", lambda *_: ended.set())
            try:
                await client.connect(
                    self._root,
                    auth={"token": self._token()},
                    socketio_path=self._path,
                    # An upgrade from polling that is cancelled half way can't be disconnected any more.
                    transports=["websocket"],
                    wait_timeout=_CONNECT_SECONDS,
                )
                await client.call("subscribe_queue", {"queue_id": QUEUE}, timeout=_CONNECT_SECONDS)
                patience.reschedule(None)
                connection.up = True
                connection.tried.set()
                self._wake_all()
                await ended.wait()
            finally:
                connection.tried.set()
                await _to_its_end(client.disconnect())

    def _client(self, session: aiohttp.ClientSession) -> socketio.AsyncClient:
        client = socketio.AsyncClient(reconnection=False, handle_sigint=False, http_session=session)
        for event in _NEWS:
            client.on(event, partial(self._hear, about_work=True))
        for event in _ENDINGS:
            client.on(event, partial(self._hear, about_work=False))
        for event in _SWEEPS:
            client.on(event, lambda *_: self._wake_all())
        return client

    def _hear(self, data: object, *, about_work: bool) -> None:
        if not isinstance(data, Mapping):
            return
        listener = self._listeners.get(str(data.get("batch_id")))
        if listener is None:
            return
        try:
            listener.hear(Heard.model_validate(data) if about_work else None)
        except ValidationError:
            _log.debug("invokeai sent an event of an unknown shape")

    def _wake_all(self) -> None:
        for listener in self._listeners.values():
            listener.hear(None)


class _Connection:
    """What holds a connection."""

    def __init__(self, keep: Callable[[_Connection], Coroutine[None, None, None]]) -> None:
        self.up = False
        self.tried = asyncio.Event()
        self._task = asyncio.create_task(keep(self))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task], timeout=_GOODBYE_SECONDS)


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """Do the work even if cancelled meanwhile: a connection that is half closed stays open."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
