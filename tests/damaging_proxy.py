"""A TCP proxy that changes one byte of known data on its way to the caller."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

INTACT = bytes((index * 31 + (index >> 8)) % 251 for index in range(300, 330))
"""A part of the files that the runners of the conformance cases upload."""
_DAMAGED = bytes([INTACT[0] ^ 1]) + INTACT[1:]
_CHANGES = (
    (INTACT, _DAMAGED),
    (base64.b64encode(INTACT), base64.b64encode(_DAMAGED)),  # in JSON: 300 is a multiple of 3
)


@asynccontextmanager
async def run_damaging_proxy(target: str) -> AsyncGenerator[str]:
    """HOST:PORT of a proxy in front of the server at `target`; what callers send passes as it is."""
    host, port = target.rsplit(":", 1)
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(host, int(port))
        writers.update((writer, to_server))
        await asyncio.gather(_pass(reader, to_server), _pass(from_server, writer, _CHANGES))

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    changes: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Hold back an end that may be the begin of what is changed, until more has come."""
    held = b""
    with suppress(OSError):
        while data := await reader.read(65536):
            held += data
            for intact, damaged in changes:
                held = held.replace(intact, damaged)
            keep = max((_begun(held, intact) for intact, _ in changes), default=0)
            writer.write(held[: len(held) - keep])
            held = held[len(held) - keep :]
            await writer.drain()
        writer.write(held)
    writer.close()


def _begun(data: bytes, wanted: bytes) -> int:
    """How many bytes at the end of the data are the first of what is wanted."""
    longest = min(len(data), len(wanted) - 1)
    return next((size for size in range(longest, 0, -1) if data.endswith(wanted[:size])), 0)
