"""Parses the address of a server: HOST:PORT, an http or https URL, unix:PATH, or another target that gRPC resolves."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from atelier_client.environment import DEFAULT_SERVER
from atelier_client.errors import InvalidRequestError

DEFAULT_PORT = 50051
_DEFAULT_PORTS = {"http": DEFAULT_PORT, "https": 443}
_RESOLVERS = frozenset(
    ("dns", "unix", "unix-abstract", "ipv4", "ipv6", "vsock", "xds", "google-c2p")
)
"""Schemes that gRPC resolves. Source: https://github.com/grpc/grpc/blob/master/doc/naming.md (2026-11)."""
_FORMS = (
    f"the server must be HOST:PORT such as {DEFAULT_SERVER}, an http or https URL, or unix:PATH"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server is."""

    target: str
    """As gRPC takes it: HOST:PORT, or what was given."""
    is_secure: bool = False
    """Whether an https URL asks for TLS."""
    endpoint: tuple[str, int] | None = None
    """Host and port; None where gRPC has another way to find it."""


def parse_address(text: str) -> ServerAddress:
    """The address in a text; a host without a port has the port 50051.

    Raises:
        InvalidRequestError: a URL has a path, or no host; or the text is no address. The message does not
            repeat the text, as it may have a password.
    """
    text = text.strip()
    scheme, mark, _ = text.partition(":")
    if mark and scheme.lower() in _RESOLVERS:
        return ServerAddress(target=text)
    if scheme.lower() not in _DEFAULT_PORTS or "://" not in text:
        return _parse_url("http", f"http://{_bracket(text)}", _FORMS)
    form = f"the server must be {scheme}://HOST:PORT and no more"
    return _parse_url(scheme.lower(), text, form)


def _bracket(text: str) -> str:
    """An IPv6 address without a port as it stands in a URL."""
    is_bare = text.count(":") > 1 and "[" not in text and "/" not in text
    return f"[{text}]" if is_bare else text


def _parse_url(scheme: str, url: str, form: str) -> ServerAddress:
    try:
        parts = urlsplit(url)
        port = _DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    except ValueError:  # of no use to the reader: they repeat a part of the text
        raise InvalidRequestError(f"{form}; a port is a number from 1 to 65535") from None
    if not parts.hostname or not port or _has_more(parts):
        raise InvalidRequestError(form)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return ServerAddress(
        target=f"{host}:{port}",
        is_secure=scheme == "https",
        endpoint=(parts.hostname, port),
    )


def _has_more(parts: SplitResult) -> bool:
    """Whether there is more than a host and a port."""
    return bool(
        parts.path.strip("/")
        or parts.query
        or parts.fragment
        or any(mark in parts.netloc for mark in " ,@")
    )
