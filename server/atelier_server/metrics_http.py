"""Serves /metrics, /healthz and /readyz over HTTP: one request a connection, with limits of number, size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import h11
from prometheus_client import make_wsgi_app

from atelier_engines.addresses import find_unix_path
from atelier_server.sockets import open_listener

_MAX_CONNECTIONS = 32
_MAX_HEAD_BYTES = 16 * 2**10
_TIMEOUT_SECONDS = 10.0  # from the connection to the last byte of the response
_READ_BYTES = 4096
_TEXT = "text/plain; charset=utf-8"
_PATHS = "/metrics, /healthz, /readyz"


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", _TEXT),)


class MetricsServer:
    """The HTTP server for Prometheus and for probes."""

    def __init__(self, address: str, server: asyncio.Server, connections: _Connections) -> None:
        """Keep what `open` has made."""
        self.address = address
        """Where it listens, with the actual port."""
        self._server = server
        self._connections = connections

    @classmethod
    async def open(cls, address: str, *, is_ready: Callable[[], bool]) -> MetricsServer:
        """Listen on the address; `is_ready` tells whether the server can do its work.

        Raises:
            AddressInUseError: the address can't be listened on.
        """
        connections = _Connections(is_ready)
        listener = open_listener(address, "metrics")
        if find_unix_path(address) is not None:
            server = await asyncio.start_unix_server(connections.serve, sock=listener)
            return cls(address, server, connections)
        server = await asyncio.start_server(connections.serve, sock=listener)
        port = listener.getsockname()[1]
        return cls(f"{address.rpartition(':')[0]}:{port}", server, connections)

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        self._server.close()
        await self._connections.close()
        if (path := find_unix_path(self.address)) is not None:
            path.unlink(missing_ok=True)


class _Connections:
    """The open connections, of which there are at most `_MAX_CONNECTIONS`; others are turned away."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._metrics = make_wsgi_app()
        self._rendering = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; whoever is too slow, or one too many, gets no answer."""
        try:
            if len(self._tasks) < _MAX_CONNECTIONS and (task := asyncio.current_task()) is not None:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                async with asyncio.timeout(_TIMEOUT_SECONDS):
                    await self._answer(reader, writer)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        method = b""
        try:
            request = await _read_request(connection, reader)
            if request is None:
                return
            method = request.method
            response = await self._respond(request)
        except h11.RemoteProtocolError as error:
            status = HTTPStatus(error.error_status_hint)
            response = _Response(status, f"{status.phrase}\n".encode())
        writer.write(_serialize(connection, response, with_body=method != b"HEAD"))
        await writer.drain()
        writer.write_eof()
        await _discard_rest(reader)

    async def _respond(self, request: h11.Request) -> _Response:
        if request.method not in {b"GET", b"HEAD"}:
            headers = (("Content-Type", _TEXT), ("Allow", "GET, HEAD"))
            return _Response(HTTPStatus.METHOD_NOT_ALLOWED, b"use GET or HEAD\n", headers)
        target = urlsplit(request.target.decode("ascii", "replace"))
        match target.path:
            case "/metrics":
                async with self._rendering:  # it takes time and memory: one at a time
                    return await asyncio.to_thread(self._render, target.query, request)
            case "/healthz":
                return _Response(HTTPStatus.OK, b"alive\n")
            case "/readyz" if self._is_ready():
                return _Response(HTTPStatus.OK, b"ready\n")
            case "/readyz":
                return _Response(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
            case _:
                return _Response(HTTPStatus.NOT_FOUND, f"not found; available: {_PATHS}\n".encode())

    def _render(self, query: str, request: h11.Request) -> _Response:
        """The metrics in the format that the request accepts."""
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": query,
            **{
                f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1")
                for name, value in request.headers
            },
        }
        heads: list[tuple[str, list[tuple[str, str]]]] = []
        body = self._metrics(environment, lambda status, headers: heads.append((status, headers)))
        status, headers = heads[-1]
        return _Response(HTTPStatus(int(status.split()[0])), b"".join(body), tuple(headers))


async def _read_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | None:
    """The head of the request, whose body is of no interest; None if the connection ends before."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_READ_BYTES))


async def _discard_rest(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed, or sends too much: closing first could take the response from it."""
    for _ in range(_MAX_HEAD_BYTES // _READ_BYTES):
        if not await reader.read(_READ_BYTES):
            return


def _serialize(connection: h11.Connection, response: _Response, *, with_body: bool) -> bytes:
    """The bytes of the response, after which the connection is closed."""
    headers = [
        *response.headers,
        ("Content-Length", str(len(response.body))),
        ("Connection", "close"),
    ]
    head = h11.Response(status_code=response.status, headers=headers, reason=response.status.phrase)
    data = connection.send(head) or b""
    return data + (response.body if with_body else b"")
