"""With `store.synchronous: FULL` the bytes of an artifact are on the disk before anything names them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import yaml
from grpc import aio

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.app import running
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.config.load import load
from tests.server.calls import Stub, image_request

NAMES = {os.fsync: "fsync", os.replace: "replace"}
FLUSHED = ["fsync", "replace", "fsync"]  # the bytes, their name, the directory


@contextmanager
def observed() -> Iterator[list[str]]:
    """The calls of the system that write through or rename, of this thread and of those that start inside."""
    calls: list[str] = []

    def observe(_: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function in NAMES:
            calls.append(NAMES[function])

    threading.setprofile(observe)
    sys.setprofile(observe)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def in_two_chunks() -> AsyncGenerator[bytes]:
    """An upload."""
    yield b"first"
    yield b"second"


@pytest.mark.parametrize(("flush", "expected"), [(True, FLUSHED), (False, ["replace"])])
async def test_a_write_waits_for_the_disk_if_that_is_wanted(
    tmp_path: Path, expected: list[str], *, flush: bool
) -> None:
    """New files, files that are overwritten, and uploads."""
    blobs = FileBlobStore(tmp_path, flush=flush)
    with observed() as calls:
        await blobs.write("new", b"bytes")
        assert calls == expected
        await blobs.delete("new")
        calls.clear()
        await blobs.write("overwritten", b"bytes")
        assert calls == expected
        calls.clear()
        await blobs.write_stream("upload", in_two_chunks(), max_bytes=100)
        assert calls == expected
    assert await blobs.read("overwritten") == b"bytes"
    assert await blobs.read("upload") == b"firstsecond"


@pytest.mark.parametrize(("synchronous", "expected"), [("FULL", FLUSHED), ("NORMAL", ["replace"])])
async def test_the_setting_decides(tmp_path: Path, synchronous: str, expected: list[str]) -> None:
    """A server writes the output of a generation through only with FULL."""
    path = tmp_path / "atelier.yaml"
    settings = {
        "engines": {"sketch": {"type": "sketch"}},
        "listen": "127.0.0.1:0",
        "metrics": None,
        "data_dir": str(tmp_path / "data"),
        "store": {"synchronous": synchronous},
    }
    path.write_text(yaml.safe_dump(settings))
    with observed() as calls:
        async with running(load(path)) as address, aio.insecure_channel(address) as channel:
            stub: Stub = GenerationServiceStub(channel)
            calls.clear()
            await stub.Generate(image_request(), wait_for_ready=True)
            assert set(calls) == set(expected)
