"""Artifacts go up in chunks and come down whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import errors
from tests.client.conftest import MakeCaller
from tests.client.stand_in import ARTIFACT, CHUNK, PICTURE, StandIn, info, status

Served = tuple[StandIn, str]


async def test_an_upload_announces_itself_and_comes_in_chunks(
    calling: MakeCaller, stand_in: Served, tmp_path: Path
) -> None:
    """Type, size and sha256 first, then no chunk larger than the contract allows."""
    service, address = stand_in
    file = tmp_path / "photo.bin"
    file.write_bytes(PICTURE)
    async with calling(address) as caller:
        await caller.call("upload", file)
    header, *chunks = [part for part in service.asked if isinstance(part, pb.UploadArtifactRequest)]
    assert header.header.media_type == "image/png"
    assert (header.header.size, header.header.sha256) == (len(PICTURE), ARTIFACT.sha256)
    assert max(len(part.chunk) for part in chunks) == CHUNK
    assert b"".join(part.chunk for part in chunks) == PICTURE


async def test_an_upload_is_tried_again(calling: MakeCaller, stand_in: Served) -> None:
    """A server that is not ready gets all of it once more."""
    service, address = stand_in
    service.refusals = [grpc.StatusCode.UNAVAILABLE]
    async with calling(address) as caller:
        artifact = await caller.call("upload", PICTURE)
    assert artifact.id == "picture"
    assert b"".join(getattr(part, "chunk", b"") for part in service.asked) == PICTURE


async def test_bytes_of_no_known_type_are_refused_here(
    calling: MakeCaller, stand_in: Served
) -> None:
    """The client asks for the media type instead of guessing it."""
    service, address = stand_in
    async with calling(address) as caller:
        with pytest.raises(errors.InvalidRequestError, match="media_type"):
            await caller.call("upload", b"no picture")
    assert not service.asked


async def test_a_file_that_is_not_there_is_a_bad_request(
    calling: MakeCaller, stand_in: Served, tmp_path: Path
) -> None:
    """The error names the file."""
    _, address = stand_in
    async with calling(address) as caller:
        with pytest.raises(errors.InvalidRequestError, match=r"none\.png"):
            await caller.call("upload", tmp_path / "none.png")


async def test_a_broken_download_goes_on_where_it_was(
    calling: MakeCaller, stand_in: Served
) -> None:
    """The second call asks for the bytes after those that came."""
    service, address = stand_in
    service.breaks = [3, 1]
    async with calling(address) as caller:
        assert await caller.call("download", "picture") == PICTURE
    offsets = [ask.offset for ask in service.asked if isinstance(ask, pb.DownloadArtifactRequest)]
    assert offsets == [0, 2 * CHUNK, 2 * CHUNK]


async def test_damaged_bytes_are_not_handed_on(calling: MakeCaller, stand_in: Served) -> None:
    """One flipped bit is an error, not a picture."""
    service, address = stand_in
    service.picture = PICTURE[:-1] + bytes([PICTURE[-1] ^ 1])
    async with calling(address) as caller:
        with pytest.raises(errors.TransferError, match="damaged"):
            await caller.call("download", "picture")


async def test_a_cut_download_is_not_handed_on(calling: MakeCaller, stand_in: Served) -> None:
    """A stream that ends early without an error is an error too."""
    service, address = stand_in
    service.picture = PICTURE[:CHUNK]
    async with calling(address) as caller:
        with pytest.raises(errors.TransferError):
            await caller.call("download", "picture")


async def test_an_unknown_artifact_is_not_found(calling: MakeCaller, stand_in: Served) -> None:
    """No retry, no empty bytes."""
    service, address = stand_in
    service.refusals = [status(grpc.StatusCode.NOT_FOUND, "no such artifact", info("UNKNOWN"))]
    async with calling(address) as caller:
        with pytest.raises(errors.NotFoundError):
            await caller.call("download", "picture")


async def test_bytes_that_were_not_fetched_are_not_empty(
    calling: MakeCaller, stand_in: Served, tmp_path: Path
) -> None:
    """Reading or saving them says what to call."""
    _, address = stand_in
    async with calling(address) as caller:
        generation = await caller.call("get", "g1")
        with pytest.raises(errors.NotDownloadedError, match="fetch"):
            generation.images[0].save(tmp_path / "a.png")
        fetched = await caller.call("fetch", generation)
    saved = fetched.images[0].save(tmp_path / "deep" / "a.png")
    assert saved.read_bytes() == PICTURE


async def test_the_largest_inline_answer_arrives(calling: MakeCaller, stand_in: Served) -> None:
    """As many outputs as a task may have, each as large as one that comes inline."""
    service, address = stand_in
    service.finished = generation_pb2.Generation(id="g1", state=generation_pb2.STATE_SUCCEEDED)
    for _ in range(64):
        service.finished.outputs.add(artifact=ARTIFACT, data=PICTURE[: 2 * 2**20])
    async with calling(address) as caller:
        made = await caller.call("generate", "a lamp", num_images=64)
    assert sum(len(output.data) for output in made.outputs) == 64 * 2 * 2**20


async def test_large_media_are_uploaded_before_the_task(
    calling: MakeCaller, stand_in: Served
) -> None:
    """What is too large to travel inside the request is named in it by id."""
    service, address = stand_in
    async with calling(address) as caller:
        await caller.call("submit", "a lamp", init_image=PICTURE, strength=0.5)
    request = service.asked[-1]
    assert isinstance(request, pb.GenerateRequest)
    assert request.image.init_image.artifact_id == "picture"
    assert not request.attachments
