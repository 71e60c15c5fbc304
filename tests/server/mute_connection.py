"""A connection of HTTP/2 that asks, and reads nothing of what it is answered."""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from google.protobuf.message import Message

from tests.conftest import RunningServer

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_SERVICE = "/atelier.v1.GenerationService/"


class MuteConnection:
    """Made by `connect_mutely`."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._stream = 1
        opened.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b""))

    def ask(self, method: str, request: Message, metadata: Sequence[tuple[str, str]] = ()) -> None:
        """Call the method of GenerationService."""
        fields = [
            *((":method", "POST"), (":scheme", "http"), (":path", _SERVICE + method)),
            *((":authority", "test"), ("te", "trailers"), ("content-type", "application/grpc")),
            *metadata,
        ]
        headers = b"".join(_literal(name, value) for name, value in fields)
        data = request.SerializeToString()
        body = b"\0" + struct.pack(">I", len(data)) + data
        self._socket.sendall(
            _frame(_HEADERS, _END_HEADERS, self._stream, headers)
            + _frame(_DATA, _END_STREAM, self._stream, body)
        )
        self._stream += 2


@contextmanager
def connect_mutely(server: RunningServer) -> Generator[MuteConnection]:
    """A connection to the server, which is closed after the context."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=300) as opened:
        yield MuteConnection(opened)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = struct.pack(">I", len(payload))[1:]
    return length + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header field without compression, each part shorter than 127 bytes (RFC 7541, 6.2.2)."""
    parts = (name.encode(), value.encode())
    return b"\0" + b"".join(bytes([len(part)]) + part for part in parts)
