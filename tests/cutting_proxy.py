"""A TCP proxy that cuts its connections, or stops passing bytes on, when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(eq=False)
class CuttingProxy:
    """Passes bytes on between its callers and `target`."""

    target: str
    """HOST:PORT of the server behind it."""
    address: str = ""
    """HOST:PORT where it listens."""
    connections: int = 0
    """How many connections it has accepted."""
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _silent: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Reset every open connection; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Keep every open connection, and pass nothing more on; new ones work."""
        self._silent |= self._writers

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one caller with the server."""
        self.connections += 1
        host, port = self.target.rsplit(":", 1)
        try:
            from_server, to_server = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, to_server}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, to_server), self._pump(from_server, writer))
        finally:
            self._writers -= pair
            self._silent -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if writer in self._silent:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def run_proxy(target: str) -> AsyncGenerator[CuttingProxy]:
    """A proxy in front of the server at `target`, on a free port of this machine."""
    proxy = CuttingProxy(target=target)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
