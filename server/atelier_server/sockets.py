"""Makes the path of a Unix socket free to listen on."""

from __future__ import annotations

import socket
from pathlib import Path

from atelier_server.errors import AddressInUseError


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
