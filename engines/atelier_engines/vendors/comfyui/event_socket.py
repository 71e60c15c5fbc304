"""Receives a server's messages about one task's jobs. Only progress depends on them: history decides the result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import WebSocketException

from atelier_engines.connections import ssl_context
from atelier_engines.vendors.comfyui.messages import Message, messages_from_frame

_log = logging.getLogger(__name__)

_MAX_FRAME_BYTES = 32 * 2**20
_MAX_QUEUED_MESSAGES = 256
_MAX_ATTEMPTS = 5  # that fail one after another
_OPEN_TIMEOUT_SECONDS = 10.0
_FEATURE_FLAGS = json.dumps(
    {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
)  # must be the first message, or previews come without the id of their job


class EventSocket:
    """Messages for one client id, over a WebSocket that reconnects when it breaks."""

    def __init__(self, url: str, headers: Mapping[str, str], *, reconnect_seconds: float) -> None:
        """Connect to nothing yet; `reconnect_seconds` is the pause before each new attempt."""
        self._url = url
        self._headers = headers
        self._reconnect_seconds = reconnect_seconds
        self._messages: asyncio.Queue[Message] = asyncio.Queue(_MAX_QUEUED_MESSAGES)
        self._first_try_over = asyncio.Event()

    async def receive(self, timeout_seconds: float) -> Message | None:
        """Return the next message, or None if none arrives in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                return await self._messages.get()
        return None

    def drain(self) -> Iterator[Message]:
        """Yield the messages that have arrived already, without waiting."""
        while not self._messages.empty():
            yield self._messages.get_nowait()

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[None]:
        """Receive messages inside the context; it is entered once the first connection attempt is over."""
        task = asyncio.create_task(self._keep_connected())
        try:
            await self._first_try_over.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_connected(self) -> None:
        failures = 0
        while failures < _MAX_ATTEMPTS:
            failures += 1
            try:
                async with connect_websocket(
                    self._url,
                    additional_headers=self._headers,
                    ssl=ssl_context() if self._url.startswith("wss:") else None,
                    max_size=_MAX_FRAME_BYTES,
                    open_timeout=_OPEN_TIMEOUT_SECONDS,
                    close_timeout=1.0,
                ) as connection:
                    await connection.send(_FEATURE_FLAGS)
                    self._first_try_over.set()
                    failures = 0
                    await self._read_frames(connection)
            except (OSError, TimeoutError, WebSocketException) as error:
                _log.info("comfyui_socket_lost", extra={"error": type(error).__name__})
            self._first_try_over.set()
            await asyncio.sleep(self._reconnect_seconds)

    async def _read_frames(self, connection: ClientConnection) -> None:
        async for frame in connection:
            for message in messages_from_frame(frame):
                await self._messages.put(message)
