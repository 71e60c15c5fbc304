"""Weights at https addresses: from allowed hosts alone, with their digest, once."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights.addresses import AddressCache, fetch, require_allowed

HEADER = b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'
FILE = len(HEADER).to_bytes(8, "little") + HEADER + b"\1\2"
DIGEST = hashlib.sha256(FILE).hexdigest()
NO_MODEL = b"<html>"


@dataclass
class Host:
    """A server with a certificate for the name localhost."""

    url: str
    certificate: Path
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Serves the file, something else, and redirections."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("host")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-keyout",
                key,
                "-out",
                certificate,
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            moved = {
                "/moved": "/ink",
                "/round": "/round",
                "/away": "https://example.org/ink",
                "/plain": "http://localhost/",
            }
            body = {"/ink": FILE, "/other": NO_MODEL}.get(self.path, b"")
            self.send_response(302 if self.path in moved else 200 if body else 404)
            self.send_header("Location", moved.get(self.path, ""))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = HTTPServer(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Host(f"https://localhost:{server.server_port}", certificate, asked)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(host: Host, tmp_path: Path) -> AddressCache:
    """An empty one, which trusts the server."""
    host.asked.clear()
    trusted = ssl.create_default_context(cafile=host.certificate)
    return AddressCache(directory=tmp_path / "cache", hosts=("localhost",), certificates=trusted)


def list_files(cache: AddressCache) -> list[str]:
    """What the cache keeps, but for its lock."""
    return sorted(path.name for path in cache.directory.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("path", ["/ink", "/moved"])
def test_a_file_is_downloaded_once(host: Host, cache: AddressCache, path: str) -> None:
    """Also by a redirection to an allowed host; later it is there without a network."""
    address = f"{host.url}{path}#sha256={DIGEST}"
    found = fetch(address, cache, download=True)
    assert found.read_bytes() == FILE
    assert host.asked[0] == path
    host.asked.clear()
    assert fetch(address, cache, download=False) == found
    assert host.asked == []
    assert list_files(cache) == [f"{DIGEST}.safetensors"]


@pytest.mark.parametrize(
    ("path", "digest", "message"),
    [
        ("/ink", "0" * 64, f"has the SHA-256 {DIGEST} and not 000"),
        ("/other", hashlib.sha256(NO_MODEL).hexdigest(), "safetensors"),
        ("/none", DIGEST, "404"),
        ("/away", DIGEST, "may not come from https://example.org"),
        ("/round", DIGEST, "more than 5 redirections"),
        ("/plain", DIGEST, "may not come from http://localhost"),
    ],
)
def test_what_is_not_that_file_is_refused(
    host: Host, cache: AddressCache, path: str, digest: str, message: str
) -> None:
    """And nothing is left of it."""
    with pytest.raises(ModelMissingError, match=message):
        fetch(f"{host.url}{path}#sha256={digest}", cache, download=True)
    assert list_files(cache) == []


def test_two_who_want_a_file_at_once_download_it_once(host: Host, cache: AddressCache) -> None:
    """Neither writes into the other's file; what a process that died has left is overwritten."""
    cache.directory.mkdir()
    (cache.directory / f".{DIGEST}.safetensors.partial").write_bytes(b"half" * 9999)
    with ThreadPoolExecutor() as threads:
        address = f"{host.url}/ink#sha256={DIGEST}"
        found = [threads.submit(fetch, address, cache, download=True) for _ in range(4)]
    assert {one.result().read_bytes() for one in found} == {FILE}
    assert host.asked == ["/ink"]
    assert list_files(cache) == [f"{DIGEST}.safetensors"]


def test_a_file_that_is_too_large_is_refused(host: Host, cache: AddressCache) -> None:
    """Whatever size the host states; and nothing is left of it."""
    with pytest.raises(ModelMissingError, match="has more than 10 bytes"):
        fetch(f"{host.url}/ink#sha256={DIGEST}", replace(cache, max_bytes=10), download=True)
    assert list_files(cache) == []


def test_without_permission_nothing_is_asked(host: Host, cache: AddressCache) -> None:
    """Neither with download off, nor of another host."""
    with pytest.raises(ModelMissingError, match="download is off"):
        fetch(f"{host.url}/ink#sha256={DIGEST}", cache, download=False)
    with pytest.raises(ModelMissingError, match="allowed are localhost"):
        fetch(f"https://127.0.0.1:1/ink#sha256={DIGEST}", cache, download=True)
    assert host.asked == []


@pytest.mark.parametrize(
    "address",
    [
        f"http://good.org/a#sha256={DIGEST}",
        "https://good.org/a",
        f"https://good.org/a#sha256={DIGEST[:-1]}",
        f"https://good.org@bad.org/a#sha256={DIGEST}",
        f"https://bad.org/a#sha256={DIGEST}",
        f"https://notgood.org/a#sha256={DIGEST}",
    ],
)
def test_other_addresses_are_refused_by_the_configuration(address: str) -> None:
    """Before anything is downloaded."""
    with pytest.raises(ValidationError, match=r"loras\.ink"):
        DiffusionConfig(loras={"ink": address}, lora_hosts=("good.org", ".good.org"))


def test_a_dot_stands_for_all_below() -> None:
    """Not for the name itself."""
    require_allowed(f"https://a.good.org/x#sha256={DIGEST}", (".good.org",))
    with pytest.raises(ValueError, match=r"allowed are \.good\.org"):
        require_allowed(f"https://good.org/x#sha256={DIGEST}", (".good.org",))
