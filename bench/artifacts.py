"""Megabytes a second of artifacts, up and down."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_service_pb2 import DownloadArtifactRequest, UploadArtifactRequest
from bench.calls import open_stub
from bench.figures import Figure, median
from bench.processes import start_sketch

if TYPE_CHECKING:
    from bench.calls import Stub

_BYTES = 64 * 2**20
_CHUNK_BYTES = 512 * 2**10
_ROUNDS = 7


async def measure() -> list[Figure]:
    """One caller, 64 MiB; `bench.client_settings` compares settings of the connection."""
    data = os.urandom(_BYTES)
    up, down = [], []
    async with start_sketch() as running, open_stub(running.address) as stub:
        for _ in range(_ROUNDS):
            seconds, artifact_id = await upload(stub, data)
            up.append(_BYTES / seconds / 1e6)
            down.append(_BYTES / await download(stub, artifact_id, data) / 1e6)
    return [
        Figure(name="up", value=median(up), unit="MB/s"),
        Figure(name="down", value=median(down), unit="MB/s"),
    ]


async def upload(stub: Stub, data: bytes) -> tuple[float, str]:
    """Upload the bytes; seconds that it took, and the id of the artifact."""
    start = time.perf_counter()
    response = await stub.UploadArtifact(_make_upload(data))
    seconds = time.perf_counter() - start
    assert response.artifact.sha256 == hashlib.sha256(data).hexdigest()
    return seconds, response.artifact.id


async def download(stub: Stub, artifact_id: str, data: bytes) -> float:
    """Download the artifact, which has these bytes; seconds that it took."""
    start = time.perf_counter()
    parts = stub.DownloadArtifact(DownloadArtifactRequest(artifact_id=artifact_id))
    chunks = [part.chunk async for part in parts]
    seconds = time.perf_counter() - start
    assert b"".join(chunks) == data
    return seconds


def _make_upload(data: bytes) -> Iterator[UploadArtifactRequest]:
    yield UploadArtifactRequest(header=UploadHeader(media_type="image/png", size=len(data)))
    for start in range(0, len(data), _CHUNK_BYTES):
        yield UploadArtifactRequest(chunk=data[start : start + _CHUNK_BYTES])
