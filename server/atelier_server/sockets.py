"""Opens the sockets of HTTP ports, and makes the paths of Unix sockets free to listen on."""

from __future__ import annotations

import socket
from pathlib import Path

from atelier_engines.addresses import find_unix_path, split_host_port
from atelier_server.errors import AddressInUseError

_BACKLOG = 128


def open_listener(address: str, purpose: str) -> socket.socket:
    """A socket that listens on the address; a host of several addresses is served by IPv4 if it has one.

    Raises:
        AddressInUseError: the address can't be listened on; names the purpose.
    """
    path = find_unix_path(address)
    if path is not None:
        remove_stale_socket(path)
    try:
        return _listen_on_host(address) if path is None else _listen_on_path(path)
    except OSError as error:
        msg = f"cannot serve {purpose} on {address}: {error.strerror}"
        raise AddressInUseError(msg) from error


def _listen_on_path(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(_BACKLOG)
    return listener


def _listen_on_host(address: str) -> socket.socket:
    host, port = split_host_port(address)
    families = {family for family, *_ in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if socket.AF_INET in families:
        return socket.create_server((host, port), backlog=_BACKLOG)
    return socket.create_server(
        (host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=host == "::"
    )


def remove_stale_socket(path: Path) -> None:
    """Remove the socket that a killed server left at the path.

    Raises:
        AddressInUseError: a server listens there, or the path is no socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        msg = f"can't listen on unix:{path}: there is a file that is no socket"
        raise AddressInUseError(msg)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as error:
            msg = f"can't listen on unix:{path}: {error.strerror}"
            raise AddressInUseError(msg) from error
    msg = f"can't listen on unix:{path}: is another server running there?"
    raise AddressInUseError(msg)
