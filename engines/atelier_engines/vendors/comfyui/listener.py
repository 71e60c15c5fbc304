"""Hears what a server tells about one task's jobs. Nothing depends on it but progress: history is the truth."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from atelier_engines.vendors.comfyui.messages import Message, messages_from_frame

_log = logging.getLogger(__name__)

_LARGEST_FRAME = 32 * 2**20
_MOST_WAITING = 256
_TRIES = 5
_OPEN_SECONDS = 10.0
_HELLO = json.dumps(
    {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
)  # the first message, or previews come without the id of their job


class Listener:
    """Messages of one client id, from a connection that is made again when it breaks."""

    def __init__(self, url: str, headers: Mapping[str, str], *, again_seconds: float) -> None:
        """Hear `url`, trying again after `again_seconds`."""
        self._url = url
        self._headers = headers
        self._again_seconds = again_seconds
        self._messages: asyncio.Queue[Message] = asyncio.Queue(_MOST_WAITING)
        self._tried = asyncio.Event()

    async def next(self, seconds: float) -> Message | None:
        """The next message; None when none comes for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._messages.get()
        return None

    def heard(self) -> Iterator[Message]:
        """What has been heard already; nothing is waited for."""
        while not self._messages.empty():
            yield self._messages.get_nowait()

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Hear from here on. Entered once the connection stands, or has failed to."""
        task = asyncio.create_task(self._listen())
        try:
            await self._tried.wait()
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        for _ in range(_TRIES):
            try:
                async with connect(
                    self._url,
                    additional_headers=self._headers,
                    max_size=_LARGEST_FRAME,
                    open_timeout=_OPEN_SECONDS,
                    close_timeout=1.0,
                ) as connection:
                    await connection.send(_HELLO)
                    self._tried.set()
                    await self._hear(connection)
            except (OSError, TimeoutError, WebSocketException) as error:
                _log.info("comfyui: no progress for now (%s)", type(error).__name__)
            self._tried.set()
            await asyncio.sleep(self._again_seconds)

    async def _hear(self, connection: ClientConnection) -> None:
        async for frame in connection:
            for message in messages_from_frame(frame):
                await self._messages.put(message)
