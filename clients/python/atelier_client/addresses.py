"""Parses the address of a server: HOST:PORT, an http or https URL, unix:PATH, or any other target of gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from atelier_client.errors import InvalidRequestError

_DEFAULT_PORTS = {"http": 50051, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a server is."""

    target: str
    """As gRPC takes it: HOST:PORT, or what was given."""
    is_secure: bool = False
    """Whether an https URL asks for TLS."""

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port; None where gRPC has another way to find it."""
        parts = urlsplit(f"//{self.target}")
        try:
            port = parts.port
        except ValueError:
            return None
        return (parts.hostname, port) if parts.hostname and port else None


def parse_address(text: str) -> ServerAddress:
    """The address in a text.

    Raises:
        InvalidRequestError: a URL has a path, or no host.
    """
    scheme, mark, _ = text.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme.lower())
    if not mark or default_port is None:
        return ServerAddress(target=text)
    parts = urlsplit(text)
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise InvalidRequestError(
            f"the server must be {scheme}://HOST:PORT and no more, not {text!r}"
        )
    try:
        port = parts.port or default_port
    except ValueError as error:
        raise InvalidRequestError(f"the port of {text!r} must be a number up to 65535") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return ServerAddress(target=f"{host}:{port}", is_secure=scheme.lower() == "https")
