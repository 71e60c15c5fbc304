"""Artifacts are uploaded in chunks, and downloaded completely or not at all."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import errors
from tests.client.conftest import MakeCaller
from tests.client.fake_server import ARTIFACT, CHUNK, IMAGE_FILE, FakeServer, info, status

Served = tuple[FakeServer, str]


async def test_an_upload_has_a_header_and_chunks(
    calling: MakeCaller, fake_server: Served, tmp_path: Path
) -> None:
    """Type, size and sha256 first, then no chunk larger than the contract allows."""
    service, address = fake_server
    file = tmp_path / "photo.bin"
    file.write_bytes(IMAGE_FILE)
    async with calling(address) as caller:
        await caller.call("upload", file)
    header, *chunks = [
        part for part in service.requests if isinstance(part, pb.UploadArtifactRequest)
    ]
    assert header.header.media_type == "image/png"
    assert (header.header.size, header.header.sha256) == (len(IMAGE_FILE), ARTIFACT.sha256)
    assert max(len(part.chunk) for part in chunks) == CHUNK
    assert b"".join(part.chunk for part in chunks) == IMAGE_FILE


async def test_an_upload_is_retried(calling: MakeCaller, fake_server: Served) -> None:
    """All of it is sent again."""
    service, address = fake_server
    service.refusals = [grpc.StatusCode.UNAVAILABLE]
    async with calling(address) as caller:
        artifact = await caller.call("upload", IMAGE_FILE)
    assert artifact.id == "image-1"
    assert b"".join(getattr(part, "chunk", b"") for part in service.requests) == IMAGE_FILE


async def test_bytes_of_no_known_type_are_refused_here(
    calling: MakeCaller, fake_server: Served
) -> None:
    """The client asks for the media type instead of guessing it."""
    service, address = fake_server
    async with calling(address) as caller:
        with pytest.raises(errors.InvalidRequestError, match="media_type"):
            await caller.call("upload", b"no image")
    assert not service.requests


async def test_a_file_that_is_not_there_is_a_bad_request(
    calling: MakeCaller, fake_server: Served, tmp_path: Path
) -> None:
    """The error names the file."""
    _, address = fake_server
    async with calling(address) as caller:
        with pytest.raises(errors.InvalidRequestError, match=r"none\.png"):
            await caller.call("upload", tmp_path / "none.png")


async def test_a_broken_download_continues_at_its_offset(
    calling: MakeCaller, fake_server: Served
) -> None:
    """The second call asks for the bytes after those that came."""
    service, address = fake_server
    service.breaks = [3, 1]
    async with calling(address) as caller:
        assert await caller.call("download", "image-1") == IMAGE_FILE
    offsets = [
        ask.offset for ask in service.requests if isinstance(ask, pb.DownloadArtifactRequest)
    ]
    assert offsets == [0, 2 * CHUNK, 2 * CHUNK]


async def test_damaged_bytes_are_not_returned(calling: MakeCaller, fake_server: Served) -> None:
    """One flipped bit is an error, not an image."""
    service, address = fake_server
    service.image_file = IMAGE_FILE[:-1] + bytes([IMAGE_FILE[-1] ^ 1])
    async with calling(address) as caller:
        with pytest.raises(errors.TransferError, match="damaged"):
            await caller.call("download", "image-1")


async def test_a_truncated_download_is_not_returned(
    calling: MakeCaller, fake_server: Served
) -> None:
    """A stream that ends early without an error is an error too."""
    service, address = fake_server
    service.image_file = IMAGE_FILE[:CHUNK]
    async with calling(address) as caller:
        with pytest.raises(errors.TransferError):
            await caller.call("download", "image-1")


async def test_an_unknown_artifact_is_not_found(calling: MakeCaller, fake_server: Served) -> None:
    """No retry, no empty bytes."""
    service, address = fake_server
    service.refusals = [status(grpc.StatusCode.NOT_FOUND, "no such artifact", info("UNKNOWN"))]
    async with calling(address) as caller:
        with pytest.raises(errors.NotFoundError):
            await caller.call("download", "image-1")


async def test_bytes_that_were_not_fetched_are_not_empty(
    calling: MakeCaller, fake_server: Served, tmp_path: Path
) -> None:
    """Reading or saving them names the method to call."""
    _, address = fake_server
    async with calling(address) as caller:
        generation = await caller.call("get", "g1")
        with pytest.raises(errors.NotDownloadedError, match="fetch"):
            generation.images[0].save(tmp_path / "a.png")
        fetched = await caller.call("fetch", generation)
    saved = fetched.images[0].save(tmp_path / "deep" / "a.png")
    assert saved.read_bytes() == IMAGE_FILE


async def test_the_largest_inline_answer_arrives(calling: MakeCaller, fake_server: Served) -> None:
    """As many outputs as a task may have, each as large as one that comes inline."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(id="g1", state=generation_pb2.STATE_SUCCEEDED)
    for _ in range(64):
        service.finished.outputs.add(artifact=ARTIFACT, data=IMAGE_FILE[: 2 * 2**20])
    async with calling(address) as caller:
        made = await caller.call("generate", "a lamp", num_images=64)
    assert sum(len(output.data) for output in made.outputs) == 64 * 2 * 2**20


async def test_large_media_are_uploaded_before_the_task(
    calling: MakeCaller, fake_server: Served
) -> None:
    """Media that are too large to attach are named by artifact id."""
    service, address = fake_server
    async with calling(address) as caller:
        await caller.call("submit", "a lamp", init_image=IMAGE_FILE, strength=0.5)
    request = service.requests[-1]
    assert isinstance(request, pb.GenerateRequest)
    assert request.image.init_image.artifact_id == "image-1"
    assert not request.attachments
