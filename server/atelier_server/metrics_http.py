"""Serves /metrics, /healthz and /readyz over HTTP: one request a connection, with limits of number, size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import make_wsgi_app

from atelier_server.http_server import Headers, HttpProtocol, HttpServer, Scope, Send

_MAX_CONNECTIONS = 32
_TIMEOUT_SECONDS = 10.0  # from the connection to the last byte of the response
_TEXT = "text/plain; charset=utf-8"
_PATHS = "/metrics, /healthz, /readyz"


@dataclass(frozen=True, slots=True)
class _Response:
    status: HTTPStatus
    body: bytes
    headers: Sequence[tuple[str, str]] = (("Content-Type", _TEXT),)


def listen_for_metrics(address: str, *, is_ready: Callable[[], bool]) -> HttpServer:
    """A server for Prometheus and for probes, yet to be started; `is_ready` tells whether the server can do its work.

    Raises:
        AddressInUseError: the address can't be listened on.
    """
    application = _Metrics(is_ready)
    return HttpServer.listen(address, application, purpose="metrics", protocol=_OneRequest)


class _OneRequest(HttpProtocol):
    """A connection for one request, which ends in time; one too many is closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the library
        """Wait for the request, but not for long."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_TIMEOUT_SECONDS, transport.abort)
        if len(self.connections) > _MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._timer.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # the library says nothing, which closes
        """Answer also those who have said that they send no more."""
        return True


class _Metrics:
    """The ASGI application."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._metrics = make_wsgi_app()
        self._rendering = asyncio.Lock()

    async def __call__(self, scope: Scope, _: object, send: Send) -> None:
        """Answer one request, whose body is of no interest, and close the connection."""
        response = await self._respond(scope)
        headers: Headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
        ]
        headers.append((b"content-length", b"%d" % len(response.body)))
        headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": response.body})

    async def _respond(self, scope: Scope) -> _Response:
        if scope["method"] not in {"GET", "HEAD"}:
            headers = (("Content-Type", _TEXT), ("Allow", "GET, HEAD"))
            return _Response(HTTPStatus.METHOD_NOT_ALLOWED, b"use GET or HEAD\n", headers)
        match scope["path"]:
            case "/metrics":
                async with self._rendering:  # it takes time and memory: one at a time
                    return await asyncio.to_thread(self._render, scope)
            case "/healthz":
                return _Response(HTTPStatus.OK, b"alive\n")
            case "/readyz" if self._is_ready():
                return _Response(HTTPStatus.OK, b"ready\n")
            case "/readyz":
                return _Response(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n")
            case _:
                return _Response(HTTPStatus.NOT_FOUND, f"not found; available: {_PATHS}\n".encode())

    def _render(self, scope: Scope) -> _Response:
        """The metrics in the format that the request accepts; the library's own ASGI application holds the loop."""
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": scope["query_string"].decode("latin-1"),
            **{
                f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1")
                for name, value in scope["headers"]
            },
        }
        heads: list[tuple[str, list[tuple[str, str]]]] = []
        body = self._metrics(environment, lambda status, headers: heads.append((status, headers)))
        status, headers = heads[-1]
        return _Response(HTTPStatus(int(status.split()[0])), b"".join(body), headers)
