"""Checks the addresses and the directories that a server needs."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from atelier_client import Client
from atelier_client.errors import AtelierError
from atelier_engines.addresses import split_host_port
from atelier_server.config.settings import Settings
from atelier_server.doctor.findings import Finding, failure, ok, warning

_MIN_FREE_BYTES = 2 * 10**9
_UNIX = "unix:"


def check_places(settings: Settings) -> Iterator[Finding]:
    """The addresses to listen on, and the data directory with its free space."""
    yield _check_address("listen", settings.listen)
    for key, address in (("http", settings.http), ("metrics", settings.metrics)):
        if address is not None:
            yield _check_address(key, address)
    yield from _check_directory(settings.data_dir.expanduser())


def _check_address(key: str, address: str) -> Finding:
    """Whether a server can listen there, or one of ours does."""
    try:
        _listen(address)
    except OSError as error:
        running = _describe_server(address) if key == "listen" else ""
        if running:
            return ok(key, f"{address}: {running}")
        text = f"cannot listen on {address}: {error.strerror or error}"
        return failure(
            key,
            text,
            f"atelier serve --{key} with another address, or `{key}:` in the configuration",
        )
    return ok(key, f"{address} is free")


def _listen(address: str) -> None:
    """Listen for a moment; a Unix socket is not made, only its directory is looked for."""
    if address.startswith(_UNIX):
        folder = Path(address.removeprefix(_UNIX)).parent
        if not folder.is_dir():
            raise OSError(f"there is no directory {folder}")
        return
    host, port = split_host_port(address)
    family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        probe.listen()


def _describe_server(address: str) -> str:
    """The Atelier server that answers at the address; empty if none does."""
    try:
        with Client(address, call_timeout_seconds=2.0) as client:
            health = client.health()
    except AtelierError:
        return ""
    return f"a server of version {health.version} runs there, {health.status.replace('_', ' ')}"


def _check_directory(path: Path) -> Iterator[Finding]:
    """Whether files can be written there, and how many."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        text = f"cannot write to {existing}: {error.strerror}"
        yield failure(
            "data_dir", text, "atelier serve --data-dir DIRECTORY, one that this user may write"
        )
        return
    free = shutil.disk_usage(existing).free
    text = f"{path}, {free / 1e9:.1f} GB free"
    if free < _MIN_FREE_BYTES:
        yield warning("data_dir", text, "free space, or use --data-dir on another disk")
    else:
        yield ok("data_dir", text)
