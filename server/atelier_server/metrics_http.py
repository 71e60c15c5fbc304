"""Serves /metrics, /healthz and /readyz over HTTP, on a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from atelier_engines.addresses import find_unix_path, split_host_port
from atelier_server.errors import AddressInUseError
from atelier_server.sockets import remove_stale_socket


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Ipv6Server(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """Bind to the path; the base class expects a host and a port."""
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """The connection, with an address of the form that the handler expects."""
        return self.socket.accept()[0], ("localhost", 0)


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing: scrapes are frequent."""


class MetricsServer:
    """The HTTP server for Prometheus and for probes."""

    def __init__(self, address: str, *, ready: Callable[[], bool]) -> None:
        """Listen at once; `ready` tells whether the server accepts generations.

        Raises:
            AddressInUseError: the address can't be listened on.
        """
        self._ready = ready
        self._metrics = make_wsgi_app()
        self._path = find_unix_path(address)
        if self._path is not None:
            remove_stale_socket(self._path)
        try:
            self._server = _bind(address)
        except OSError as error:
            msg = f"cannot serve metrics on {address}: {error.strerror}"
            raise AddressInUseError(msg) from error
        self._server.set_app(self._handle)
        self.address = address
        if self._path is None:
            self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _handle(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] == "HEAD":
            return self._handle_head(environment, start)
        match environment["PATH_INFO"]:
            case "/metrics":
                body: Iterable[bytes] = self._metrics(environment, start)
                return body
            case "/healthz":
                return _respond(start, "200 OK", b"alive\n")
            case "/readyz" if self._ready():
                return _respond(start, "200 OK", b"ready\n")
            case "/readyz":
                return _respond(start, "503 Service Unavailable", b"not ready\n")
            case _:
                return _respond(
                    start, "404 Not Found", b"not found; available: /metrics, /healthz, /readyz\n"
                )

    def _handle_head(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Status and headers of the same GET, with its length and without its body (RFC 9110, 9.3.2)."""
        heads: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(
            status: str, headers: list[tuple[str, str]], _: object = None, /
        ) -> Callable[[bytes], object]:
            heads.append((status, headers))
            return _discard

        body = self._handle({**environment, "REQUEST_METHOD": "GET"}, keep)
        status, headers = heads[-1]
        start(status, [*headers, ("Content-Length", str(sum(map(len, body))))])
        return []


def _discard(_: bytes) -> None:
    """What WSGI wants in return for a response's head: a function that writes; nothing here uses it."""


def _bind(address: str) -> WSGIServer:
    """A server that listens on the address; a host of several addresses is served by IPv4 if it has one."""
    path = find_unix_path(address)
    if path is not None:
        return _UnixServer(str(path), _SilentHandler)  # type: ignore[arg-type] # typeshed knows TCP only
    found = socket.getaddrinfo(*split_host_port(address), type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    server = _Server if socket.AF_INET in families else _Ipv6Server
    return server(split_host_port(address), _SilentHandler)


def _respond(start: StartResponse, status: str, text: bytes) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text]
