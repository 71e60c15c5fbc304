"""Starts of a server: what is enough for one, and what is refused with nothing changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest
import yaml

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import ATELIER, StartServer, free_port, launch
from tests.server.calls import audio_request, image_request
from tests.server.test_config import SKETCH, run


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.com:0"])
def test_nobody_is_served_insecurely_by_mistake(tmp_path: Path, listen: str) -> None:
    """An address that other machines reach needs a word of consent."""
    done = run("serve", "--listen", listen, "--data-dir", tmp_path)
    assert done.returncode == 2
    assert "--allow-insecure" in done.stderr


def test_consent_is_enough(tmp_path: Path) -> None:
    """Then all addresses are served."""
    server = launch(
        tmp_path,
        listen=f"0.0.0.0:{(port := free_port())}",
        address=f"127.0.0.1:{port}",
        allow_insecure=True,
    )
    assert server.terminate() == 0


def test_a_data_directory_has_one_server(start_server: StartServer) -> None:
    """A second one says whose fault it is, and leaves the first alone."""
    server = start_server()
    done = run(
        "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir", server.data
    )
    assert done.returncode == 1
    assert f"another server uses the data directory {server.data}" in done.stderr
    assert server.process.poll() is None


def test_a_port_that_is_taken_is_named(start_server: StartServer, tmp_path: Path) -> None:
    """That of gRPC and that of the metrics; no half of a server stays."""
    server = start_server()
    path = tmp_path / "second.yaml"
    for listen, metrics, taken in (
        (server.address, "127.0.0.1:0", server.address),
        ("127.0.0.1:0", server.metrics_address, server.metrics_address),
    ):
        settings = {"engines": {"a": SKETCH}, "data_dir": str(tmp_path / "b"), "metrics": metrics}
        path.write_text(yaml.safe_dump({**settings, "listen": listen}))
        done = run("serve", "--config", path)
        assert done.returncode == 1
        assert taken in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr


def test_a_broken_database_is_named(tmp_path: Path) -> None:
    """It is left as it is."""
    (tmp_path / "atelier.db").write_bytes(b"no database at all" * 100)
    done = run(
        "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir", tmp_path
    )
    assert done.returncode == 1
    assert "atelier.db" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "atelier.db").read_bytes().startswith(b"no database")


def test_a_server_without_a_file_serves_the_embedded_engines(tmp_path: Path) -> None:
    """`atelier serve` is enough; an image comes from sketch at once, and words are said."""
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        *(ATELIER, "serve", "--listen", address),
        *("--metrics", "127.0.0.1:0", "--data-dir", str(tmp_path)),
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(30)
                stub = GenerationServiceStub(channel)
                found = stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=300)
                assert [engine.name for engine in found.engines] == ["tiny", "sketch", "voice"]
                assert stub.Generate(image_request(), timeout=300).generation.engine == "sketch"
                said = stub.Generate(audio_request("Ready.", engine="voice"), timeout=300)
                assert said.generation.receipt.recipe.weights_digest
        finally:
            process.kill()
