"""Keepalive pings of clients, as HTTP/2 frames on a socket."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Generator
from contextlib import contextmanager

from atelier_server.config.limit_settings import LimitSettings
from tests.conftest import RunningServer, StartServer

_SETTINGS, _PING, _GOAWAY = 4, 6, 7
_ACK = 1


class Connection:
    """An HTTP/2 connection without calls."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._frames = opened.makefile("rb")
        opened.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self._send(_SETTINGS)

    def ping(self) -> bytes | None:
        """Send a ping; None if it was acknowledged, otherwise the reason for which the server closes."""
        self._send(_PING, payload=b"12345678")
        while True:
            header = self._frames.read(9)
            length, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
            payload = self._frames.read(length)
            match kind:
                case 6 if flags & _ACK:
                    return None
                case 6:
                    self._send(_PING, flags=_ACK, payload=payload)
                case 7 if payload[4:8] != bytes(4):
                    return payload[8:]
                case 4 if not flags & _ACK:
                    self._send(_SETTINGS, flags=_ACK)

    def close(self) -> None:
        """Close the connection."""
        self._frames.close()

    def _send(self, kind: int, *, flags: int = 0, payload: bytes = b"") -> None:
        header = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, 0)
        self._socket.sendall(header + payload)


@contextmanager
def connected(server: RunningServer) -> Generator[Connection]:
    """A connection to the server."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=300) as opened:
        connection = Connection(opened)
        try:
            yield connection
        finally:
            connection.close()


def test_clients_may_ping_as_often_as_the_setting_allows(start_server: StartServer) -> None:
    """Also without calls; sixteen pings in a row are acknowledged."""
    server = start_server(limits={"min_ping_interval_seconds": 0.1})
    with connected(server) as connection:
        for _ in range(16):
            assert connection.ping() is None
            time.sleep(0.15)


def test_a_client_that_pings_without_pause_is_told_why_it_is_cut(server: RunningServer) -> None:
    """By the reason in the GOAWAY frame."""
    with connected(server) as connection:
        reason = None
        for _ in range(16):
            reason = reason or connection.ping()
            if reason:
                break
    assert reason == b"too_many_pings"


def test_pings_every_ten_seconds_are_allowed_by_default() -> None:
    """With a margin for timers that fire early; ten seconds is what many clients and proxies use."""
    assert LimitSettings().min_ping_interval_seconds <= 9
