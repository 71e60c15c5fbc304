"""Says at once that no server answers, where gRPC would try for seconds."""

from __future__ import annotations

import socket

from atelier_client.addresses import parse_address
from atelier_client.environment import has_proxy, read_server_address
from atelier_client.errors import ServerUnreachableError

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LOCAL_SECONDS, _REMOTE_SECONDS = 0.5, 3.0


def check_reachable(server: str) -> None:
    """Return if something listens at the address, or if only gRPC can tell.

    Raises:
        ServerUnreachableError: nothing does; the message says how to start a server.
    """
    address = parse_address(server or read_server_address())
    endpoint = address.endpoint
    if endpoint is None or (has_proxy() and endpoint[0] not in _LOOPBACK):
        return
    seconds = _LOCAL_SECONDS if endpoint[0] in _LOOPBACK else _REMOTE_SECONDS
    try:
        socket.create_connection(endpoint, seconds).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ServerUnreachableError(
            f"cannot reach the server at {address.target}: {reason}; `atelier serve` starts one on this"
            " machine, --server or $ATELIER_SERVER names another"
        ) from error
