"""A TCP proxy that loses one message on its way to a server, or the server's answer to it, with the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(eq=False)
class LosingProxy:
    """Passes bytes on between its callers and the server at `port` of this machine."""

    target: int
    """Port of the server behind it."""
    port: int = 0
    """Where it listens."""
    message: bytes = b""
    """What it loses, once; nothing, if that is empty."""
    loses_answer: bool = False
    """Whether the server gets the message, and only its answer is lost."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """What happens before the caller can notice."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one caller with the server."""
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        answering = asyncio.create_task(_pump(answers, writer))
        try:
            await self._pass_on(reader, server, answering, answers)
        finally:
            answering.cancel()
            for each in (server, writer):
                each.transport.abort()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        answering: asyncio.Task[None],
        answers: asyncio.StreamReader,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self.message or self.message not in data:
                    server.write(data)
                    await server.drain()
                    continue
                self.message = b""
                answering.cancel()
                await asyncio.wait([answering])
                if self.loses_answer:
                    server.write(data)
                    await answers.read(1)
                if self.meanwhile is not None:
                    await self.meanwhile()
                return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def run_losing_proxy(target: int) -> AsyncGenerator[LosingProxy]:
    """A proxy on a free port of this machine."""
    proxy = LosingProxy(target)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
