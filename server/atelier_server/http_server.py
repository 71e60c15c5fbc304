"""Serves an ASGI application over HTTP/1.1 in the event loop of the gRPC server, with limits of a request's head."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from atelier_engines.addresses import find_unix_path
from atelier_server.sockets import open_listener

Scope: TypeAlias = "Mapping[str, Any]"
Send: TypeAlias = "Callable[[Any], Awaitable[None]]"
Application: TypeAlias = "Callable[[Any, Any, Any], Awaitable[None]]"
Headers: TypeAlias = "list[tuple[bytes, bytes]]"

_HEAD_SECONDS = (
    10.0  # from the connection, or the first byte of the next request, to the end of the head
)
_MAX_HEAD_BYTES = 16 * 2**10
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 31\r\nconnection: close\r\n\r\na head may have at most 16 KiB\n"
)
_KEEP_ALIVE_SECONDS = 60
_MAX_JOINED_BYTES = 2**16


class _JoiningTransport:
    """A transport that sends the head of a response with the beginning of its body: one system call instead of two.

    The library writes a head only where a body follows at once.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        """Write to this one."""
        self._transport, self._head = transport, b""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever else a transport has)
        """The same of the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write the data, or keep it if it is a head."""
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head += data
        elif self._head and len(data) > _MAX_JOINED_BYTES:
            self._flush()
            self._transport.write(data)
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data)

    def close(self) -> None:
        """Write what is kept, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)


class HttpProtocol(HttpToolsProtocol):
    """A connection whose requests have heads of a limited size, which arrive in a limited time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the library
        """Wait for the first head."""
        super().connection_made(cast("asyncio.Transport", _JoiningTransport(transport)))
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._start_head_timer()
        self._unfinished_bytes = 0
        self._ignores_rest = False

    def data_received(self, data: bytes) -> None:
        """Read it, unless it stands behind a pipelined request."""
        if self._ignores_rest:
            return
        super().data_received(data)
        if self._head_timer is not None:  # the head goes on; the parser keeps its last line
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > _MAX_HEAD_BYTES:
                self._refuse_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of the head; ignore a request that does not wait for the answer to the one before.

        The library would queue it and read no more, so that it would not see the connection close, and the work for
        the first caller would go on.
        """
        before = cast("RequestResponseCycle | None", self.cycle)  # None before the first
        if before is not None and not before.response_complete:
            self._ignores_rest = True
            before.keep_alive = False
            raise ValueError("pipelined")  # the parser stops
        self._head_bytes = self._unfinished_bytes = 0
        self._start_head_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count it."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count it."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._stop_head_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless that has been done, or the answer to the request before it comes first."""
        if not self._ignores_rest:
            super().send_400_response(msg)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > _MAX_HEAD_BYTES:
            self._refuse_head()
            raise ValueError("too large")  # the parser stops

    def _refuse_head(self) -> None:
        """Answer that the head is too large, and close."""
        if not self._ignores_rest:
            self._ignores_rest = True
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _start_head_timer(self) -> None:
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Server(uvicorn.Server):
    """Leaves the signals of the process to us. Source: findings/uvicorn-takes-the-signals-of-its-process.sh."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class HttpServer:
    """An HTTP server that listens, and answers once it is started."""

    def __init__(self, server: _Server, listener: socket.socket, address: str) -> None:
        """Keep what `listen` has made."""
        self.address = address
        """Where it listens, with the actual port."""
        self._server, self._listener = server, listener
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def listen(
        cls,
        address: str,
        application: Application,
        *,
        purpose: str = "HTTP",
        protocol: type[HttpProtocol] = HttpProtocol,
        grace_seconds: float = 1,
        make_tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> HttpServer:
        """Open the port, in plain text if `make_tls` is None; calls have so long to end when it stops.

        `purpose` stands in the error; each connection is a `protocol`.

        Raises:
            AddressInUseError: the address can't be listened on.
        """
        listener = open_listener(address, purpose)
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of malformed requests
        factory: dict[str, Any] = {}
        if make_tls is not None:
            factory["ssl_context_factory"] = lambda _config, _default: make_tls()
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(grace_seconds)),
            **factory,
        )
        if find_unix_path(address) is None:
            address = f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"
        return cls(_Server(config), listener, address)

    def start(self) -> None:
        """Answer from now on."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def stop(self) -> None:
        """Stop listening, let calls end for the grace period, and end them."""
        if self._task is None:
            self._listener.close()
        else:
            self._server.should_exit = True
            await self._task
        if (path := find_unix_path(self.address)) is not None:
            path.unlink(missing_ok=True)
