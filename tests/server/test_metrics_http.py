"""The HTTP port against callers that are slow, many, or wrong."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import RunningServer
from tests.server.test_config import run

_MANY = 200


@contextlib.contextmanager
def connect(server: RunningServer) -> Iterator[socket.socket]:
    """A plain connection to the port."""
    host, _, port = server.metrics_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes; nothing if it resets the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            data += chunk
    return data


def count_threads(server: RunningServer) -> int:
    """Threads of the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("Threads")).split()[1])


def test_a_request_that_never_ends_is_given_up(server: RunningServer) -> None:
    """Also one whose caller does not even begin."""
    with connect(server) as silent, connect(server) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        assert read_all(slow) == b""
        assert read_all(silent) == b""


def test_idle_connections_take_no_threads_and_end(server: RunningServer) -> None:
    """Of many only some are kept open; once they have timed out, the port answers as before."""
    before = count_threads(server)
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(server)) for _ in range(_MANY)]
        assert read_all(opened[-1]) == b""
        assert count_threads(server) < before + 10
        for connection in opened:
            assert read_all(connection) == b""
    with urllib.request.urlopen(f"http://{server.metrics_address}/readyz", timeout=300) as answer:
        assert answer.read() == b"ready\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 "),  # made in a thread
        (b"GET /healthz?now HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HT", b"HTTP/1.1 200 "),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET \xff HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, b"HTTP/1.1 431 "),
    ],
)
def test_each_request_gets_one_response(
    server: RunningServer, request_bytes: bytes, status: bytes
) -> None:
    """Whatever is in it; the connection is closed then."""
    with connect(server) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        response = read_all(connection)
    assert response.startswith(status)
    assert response.count(b"HTTP/1.1 ") == 1
    assert b"\r\nconnection: close\r\n" in response.lower()


def test_metrics_come_as_the_request_wants_them(server: RunningServer) -> None:
    """In the format and the encoding that it accepts, and only those that it names."""
    headers = {"Accept": "application/openmetrics-text", "Accept-Encoding": "gzip"}
    connection = http.client.HTTPConnection(server.metrics_address, timeout=300)
    try:
        connection.request("GET", "/metrics?name[]=atelier_storage_up", headers=headers)
        response = connection.getresponse()
        text = gzip.decompress(response.read()).decode()
    finally:
        connection.close()
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "atelier_storage_up 1" in text
    assert "grpc_server" not in text
    assert text.endswith("# EOF\n")


@pytest.mark.parametrize("metrics", ["0.0.0.0:0", "[::]:0"])
def test_metrics_are_not_shown_to_other_machines_by_mistake(tmp_path: Path, metrics: str) -> None:
    """As for gRPC, that needs a word of consent."""
    addresses = ("--listen", "127.0.0.1:0", "--metrics", metrics)
    done = run("serve", *addresses, "--data-dir", tmp_path)
    assert done.returncode == 2
    assert f"metrics: {metrics} can be reached" in done.stderr
    assert "--allow-insecure" in done.stderr
