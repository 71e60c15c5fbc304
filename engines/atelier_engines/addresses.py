"""Addresses of servers in a configuration: HOST:PORT, [IPV6]:PORT, or unix:PATH."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/\[\]]+):\d{1,5}")
_UNIX = "unix:"
_MAX_PORT = 65_535
_MAX_UNIX_PATH_BYTES = 107
"""Length of `sun_path`, less the NUL at its end: unix(7)."""


def validate_address(address: str) -> str:
    """The address, with `~` in the path of a Unix socket expanded.

    Raises:
        ValueError: it has another form, the port is over 65535, or the path is too long.
    """
    if address.startswith(_UNIX):
        path = str(Path(re.sub("^//(?=/)", "", address.removeprefix(_UNIX))).expanduser())
        if path == "." or "\0" in path or len(path.encode()) > _MAX_UNIX_PATH_BYTES:
            raise ValueError(
                f"must be unix:PATH with a path of at most {_MAX_UNIX_PATH_BYTES} bytes"
            )
        return _UNIX + path
    if not _HOST_PORT.fullmatch(address):
        raise ValueError("must be HOST:PORT, [IPV6]:PORT or unix:PATH")
    host, port = split_host_port(address)
    if port > _MAX_PORT:
        raise ValueError(f"the port must be 0 to {_MAX_PORT}")
    if address.startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise ValueError("must have an IPv6 address between the brackets") from error
    return address


class ShortUrl(str):
    """A URL whose `repr` has no user, password and query: that of a section stands in logs and errors."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(hide_secrets(str(self)))


def validate_url(url: str) -> str:
    """The URL, unchanged but for its `repr`.

    Raises:
        ValueError: it is not http(s), has no host, or its port is over 65535.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and parts.hostname
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"must be a URL with a port of 0 to {_MAX_PORT}") from error
    if not valid:
        raise ValueError("must be a URL that begins with http:// or https:// and a host")
    return ShortUrl(url)


def hide_secrets(address: str) -> str:
    """The address as it may stand in errors and logs: of a URL, without user, password and query."""
    parts = urlsplit(address)
    if not parts.netloc:
        return address
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def split_host_port(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of an address that is no Unix socket."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def find_unix_path(address: str) -> Path | None:
    """Path of the Unix socket; None for all other addresses."""
    return Path(address.removeprefix(_UNIX)) if address.startswith(_UNIX) else None


def is_local(address: str) -> bool:
    """Whether only this machine can reach the address: loopback, or a Unix socket."""
    if find_unix_path(address) is not None:
        return True
    host, _ = split_host_port(address)
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


Url = Annotated[str, AfterValidator(validate_url)]
"""A valid URL of a service."""
Address = Annotated[str, AfterValidator(validate_address)]
"""A valid address."""
