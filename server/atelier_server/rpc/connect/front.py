"""What stands in front of the Connect application: origins of browsers, hosts, and answers in words to odd requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from connectrpc.errors import ConnectError
from google.protobuf.descriptor import MethodDescriptor

from atelier_engines.addresses import is_local
from atelier_server.config.settings import Settings
from atelier_server.http_server import Application, Headers, Scope, Send
from atelier_server.rpc.connect.application import METHODS, PREFIX, ConnectApplication
from atelier_server.rpc.connect.page import MISSING, PageFile, read_page
from atelier_server.rpc.interceptors.chain import InterceptorChain
from atelier_server.rpc.service import GenerationService

_log = logging.getLogger(__name__)

Receive: TypeAlias = "Callable[[], Awaitable[Any]]"

_NO_CONTENT = 204
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_ALLOWED = (
    *("authorization", "connect-protocol-version", "connect-timeout-ms", "content-type"),
    *("grpc-timeout", "traceparent", "tracestate", "x-grpc-web", "x-user-agent"),
)
"""Headers that a page may send."""
_READABLE = (
    *("atelier-server-version", "grpc-message", "grpc-retry-pushback-ms", "grpc-status"),
    *("grpc-status-details-bin", "trailer-grpc-retry-pushback-ms"),
)
"""Headers that a page may read."""
_PREFLIGHT = (
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", ", ".join(_ALLOWED).encode()),
    (b"access-control-max-age", b"7200"),
)
_EXPOSED = (b"access-control-expose-headers", ", ".join(_READABLE).encode())
_WEB = ("application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json")
_UNARY = frozenset({"application/json", "application/proto", *_WEB})
_STREAM = frozenset({"application/connect+json", "application/connect+proto", *_WEB})


@dataclass(frozen=True, slots=True)
class _Rejection:
    """The answer to a request that is no call."""

    status: int
    text: str
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Front:
    """An ASGI application that passes on what is a call, and answers everything else."""

    application: Application
    origins: frozenset[str]
    """Origins of pages that browsers let call; `*` for every page."""
    only_local_hosts: bool
    """Whether the request must name this machine as the host: a page whose name was made to point here does not."""
    page: Mapping[str, PageFile] | None
    """The files of the playground by their paths, none if it has not been built; None to show no page."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        sender = self._add_cors(send, headers.get(b"origin"))
        if (file := self._find_file(scope, headers)) is not None:
            closes = ((b"connection", b"close"),) if scope["method"] == "HEAD" else ()
            await _send(send, 200, [*file.headers, *closes], file.body)
            return
        if (rejection := self._reject(scope, headers)) is not None:
            await _answer(sender, rejection)
            return
        try:
            await self.application(scope, receive, sender)
        except (
            asyncio.CancelledError
        ):  # the server stops, or has ended the call; the answer has been tried
            _log.debug("http_call_cancelled")
        except ConnectError:  # its caller has left
            _log.debug("http_call_lost")

    def _find_file(self, scope: Scope, headers: Mapping[bytes, str]) -> PageFile | None:
        """The file of the page that is asked for; None if none is."""
        asks = scope["method"] in {"GET", "HEAD"} and bool(self.page)
        if not asks or (self.only_local_hosts and not self._is_known(headers.get(b"host", ""))):
            return None
        return (self.page or {}).get(scope["path"])

    def _reject(self, scope: Scope, headers: Mapping[bytes, str]) -> _Rejection | None:
        """The answer to a request that is no call; None for one that is."""
        if scope["method"] == "HEAD":  # its answer has no body, with which the head would leave
            return _Rejection(405, "", ((b"allow", b"POST"), (b"connection", b"close")))
        host = headers.get(b"host", "")
        if self.only_local_hosts and not self._is_known(host):
            return _Rejection(421, f"this server answers as localhost, not as {host!r}\n")
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            return _Rejection(_NO_CONTENT, "", _PREFLIGHT)
        if scope["path"] == "/" and self.page is not None and not self.page:
            return _Rejection(404, MISSING)
        method = METHODS.get(scope["path"].removeprefix(PREFIX))
        if not scope["path"].startswith(PREFIX) or method is None:
            names = ", ".join(METHODS)
            return _Rejection(404, f"not found; POST {PREFIX}NAME with one of {names}\n")
        return _reject_call(scope, headers, method)

    def _is_known(self, host: str) -> bool:
        """Whether the host is this machine, or that of a page that may call."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:  # such as an IPv6 address that does not end
            return False
        return name in _LOCAL_HOSTS or any(name == urlsplit(one).hostname for one in self.origins)

    def _add_cors(self, send: Send, origin: str | None) -> Send:
        """Send with the headers that let a page of this origin read the answer, if it may."""
        if not self.origins or origin is None:
            return send
        added: Headers = [(b"vary", b"origin")]
        if "*" in self.origins or origin in self.origins:
            added += [(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED]

        async def send_with_headers(message: Any) -> None:  # noqa: ANN401 (an event of ASGI)
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        return send_with_headers


def make_front(
    settings: Settings, service: GenerationService, interceptors: InterceptorChain
) -> Front:
    """The application of the HTTP port."""
    application = ConnectApplication(service, interceptors, settings.limits.max_message_bytes)
    is_open = settings.auth is None and settings.http is not None and is_local(settings.http)
    page = read_page() if settings.http is not None and settings.playground else None
    origins = frozenset(settings.http_origins)
    return Front(application, origins, only_local_hosts=is_open, page=page)


def _is_utf8(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    try:
        for name, value in headers:
            name.decode(), value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reject_call(
    scope: Scope, headers: Mapping[bytes, str], method: MethodDescriptor
) -> _Rejection | None:
    """The answer to what is no call of this method, although it has its path."""
    if b"upgrade" in headers and "upgrade" in headers.get(b"connection", "").lower():
        return _Rejection(
            400, "use HTTP/1.1, and ask for no upgrade\n", ((b"connection", b"close"),)
        )
    if scope["method"] != "POST":
        return _Rejection(405, "use POST\n", ((b"allow", b"POST"),))
    accepted = _STREAM if method.client_streaming or method.server_streaming else _UNARY
    if headers.get(b"content-type", "").partition(";")[0].strip().lower() not in accepted:
        return _Rejection(415, f"set content-type to one of {', '.join(sorted(accepted))}\n")
    if not _is_utf8(scope["headers"]):
        return _Rejection(400, "headers must be UTF-8\n")
    return None


async def _answer(send: Send, rejection: _Rejection) -> None:
    headers = list(rejection.headers)
    if rejection.status != _NO_CONTENT:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await _send(send, rejection.status, headers, rejection.text.encode())


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if status != _NO_CONTENT:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
