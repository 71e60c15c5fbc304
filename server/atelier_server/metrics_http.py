"""Serves /metrics, /healthz and /readyz over HTTP, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from atelier_server.errors import AddressInUseError


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


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
        host, _, port = address.rpartition(":")
        self._ready = ready
        self._metrics = make_wsgi_app()
        try:
            self._server = make_server(
                host.strip("[]"), int(port), self._handle, _Server, _SilentHandler
            )
        except OSError as error:
            msg = f"cannot serve metrics on {address}: {error.strerror}"
            raise AddressInUseError(msg) from error
        self.address = f"{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
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


def _respond(start: StartResponse, status: str, text: bytes) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text]
