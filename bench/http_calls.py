"""HTTP/1.1 calls over connections that stay open, with as little work for the client as possible."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.calls import OUTPUT_BYTES

_LIMIT = 4 * OUTPUT_BYTES


@dataclass(frozen=True, slots=True)
class HttpConnection:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, request: bytes) -> int:
        """Send a whole request; returns the length of the answer's body in bytes.

        Raises:
            RuntimeError: the answer has another status than 200, or does not tell where it ends.
        """
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, *lines = head.split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        if " 200" in status and "content-length" in fields:
            return len(await self.reader.readexactly(int(fields["content-length"])))
        if " 200" in status and fields.get("transfer-encoding") == "chunked":
            return await self._skip_chunks()
        raise RuntimeError(f"unexpected answer: {head}")

    async def _skip_chunks(self) -> int:
        """The length of a body in chunks: each has its size before it in hexadecimal; one of size 0 ends them."""
        total = 0
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            total += size
            await self.reader.readexactly(size + 2)
        await self.reader.readexactly(2)
        return total


@asynccontextmanager
async def connect(port: int) -> AsyncGenerator[HttpConnection]:
    """A connection to a server on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
    try:
        yield HttpConnection(reader, writer)
    finally:
        writer.close()


def build_post(path: str, body: bytes) -> bytes:
    """A whole request with a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def measure_http_rate(port: int, request: bytes, *, callers: int, calls: int) -> float:
    """Calls a second when so many callers each make their next call as soon as the last is answered."""
    remaining = iter(range(calls))

    async def keep_calling() -> None:
        async with connect(port) as connection:
            for _ in remaining:
                assert await connection.post(request) >= OUTPUT_BYTES

    start = time.perf_counter()
    await asyncio.gather(*(keep_calling() for _ in range(callers)))
    return calls / (time.perf_counter() - start)
