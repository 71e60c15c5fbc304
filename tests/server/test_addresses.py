"""Addresses of both ports: IPv6 and Unix sockets."""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import image_request


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path, since that of a Unix socket may have 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="atelier-"))
    yield path
    shutil.rmtree(path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=300)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def _fetch(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _generate(server: RunningServer) -> str:
    with grpc.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        return stub.Generate(image_request(), timeout=300).generation.engine


def _started(server: RunningServer) -> dict[str, str]:
    return next(line for line in server.log_lines() if line["event"] == "server_started")


def test_both_ports_listen_on_ipv6(start_server: StartServer) -> None:
    """The log names the ports that were chosen."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
        port = probe.getsockname()[1]
    server = start_server(address=f"[::1]:{port}", metrics="[::1]:0")
    assert _generate(server) == "sketch"
    started = _started(server)
    assert started["address"] == server.address
    host, _, metrics = started["metrics"].rpartition(":")
    assert host == "[::1]"
    assert _fetch(http.client.HTTPConnection("::1", int(metrics)), "/readyz") == (200, b"ready\n")


def test_both_ports_listen_on_unix_sockets(start_server: StartServer, short: Path) -> None:
    """A server that was killed leaves its sockets, and the next one replaces them; a drain removes them."""
    addresses = {"address": f"unix:{short}/grpc", "metrics": f"unix:{short}/http"}
    start_server(**addresses).kill()
    server = start_server(**addresses)
    assert _generate(server) == "sketch"
    status, text = _fetch(_UnixConnection(short / "http"), "/metrics")
    assert (status, b"grpc_server_started_total" in text) == (200, True)
    assert server.terminate() == 0
    assert list(short.iterdir()) == []


@pytest.mark.parametrize("key", ["address", "metrics"])
def test_a_unix_socket_in_use_is_not_taken(
    start_server: StartServer, short: Path, key: str
) -> None:
    """Nor is a file replaced that is no socket."""
    path = short / "taken"
    (short / "file").write_text("kept")
    settings = {key: f"unix:{path}"}
    first = start_server(**settings)
    for address, reason in (
        (f"unix:{path}", "another server"),
        (f"unix:{short}/file", "no socket"),
    ):
        second = start_server(
            **{key: address}, wait=False, data_dir=str(first.data.parent / "second")
        )
        assert second.process.wait(300) == 1
        assert reason in second.log.read_text().splitlines()[-1]
    assert (short / "file").read_text() == "kept"
    assert path.is_socket()
    assert first.process.poll() is None
