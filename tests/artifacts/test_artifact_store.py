"""Artifacts: records and bytes stay together."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from atelier.v1.artifact_pb2 import UploadHeader
from atelier_engines.media import Encoded
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.errors import DataLossError
from atelier_server.ids import new_id
from atelier_server.store.sqlite.store import SqliteStore

DAY = 86_400.0


@pytest.fixture
async def artifacts(tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    """Over an empty database and an empty directory."""
    store = await SqliteStore.open(tmp_path / "atelier.db", max_attempts=3, retention_seconds=60)
    yield ArtifactStore(
        store, FileBlobStore(tmp_path / "blobs"), retention_seconds=60, max_upload_bytes=2**26
    )
    await store.close()


async def test_orphans_are_deleted_by_age(artifacts: ArtifactStore, tmp_path: Path) -> None:
    """A blob without a record may belong to an attempt that still runs, until it is old; records protect theirs."""
    known = await artifacts.add(b"attached", "application/octet-stream", "ada")
    orphan = await artifacts.write_output(
        new_id(), Encoded(media_type="image/png", data=b"of an attempt", width=8, height=8)
    )
    files = tmp_path / "blobs"
    await artifacts.delete_orphans(time.time())
    assert {path.name for path in files.iterdir() if path.is_file()} == {known.id, orphan.id}
    await artifacts.delete_abandoned()
    assert {path.name for path in files.iterdir() if path.is_file()} == {known.id, orphan.id}
    await artifacts.delete_orphans(time.time() + 2 * DAY)
    assert {path.name for path in files.iterdir() if path.is_file()} == {known.id}


@pytest.mark.parametrize("uploaded", [False, True])
async def test_an_artifact_that_is_cancelled_at_any_moment_leaves_nothing(
    artifacts: ArtifactStore, tmp_path: Path, *, uploaded: bool
) -> None:
    """Neither bytes, nor a record without them."""

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"attached"

    finished = set()
    for turns in range(60):
        adding = asyncio.create_task(
            artifacts.upload(UploadHeader(media_type="image/png"), chunks(), "ada")
            if uploaded
            else artifacts.add(b"attached", "image/png", "ada")
        )
        for turn in range(turns):
            await asyncio.sleep(0 if turn < 30 else 1e-5)
        adding.cancel()
        with suppress(asyncio.CancelledError):
            finished.add((await adding).id)
    files = {path.name for path in (tmp_path / "blobs").iterdir() if path.is_file()}
    assert files == finished
    for artifact_id in finished:
        assert await artifacts.read(await artifacts.find(artifact_id, "ada")) == b"attached"


async def test_an_empty_database_deletes_nothing(
    artifacts: ArtifactStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of any age: the files are what is left of a database that was lost; the log says so."""
    files = tmp_path / "blobs"
    orphan = files / f"{new_id()}-1-0"
    orphan.write_bytes(b"an output")
    os.utime(orphan, (0, 0))
    await artifacts.delete_abandoned()
    await artifacts.delete_orphans(time.time())
    assert orphan.exists()
    assert [record.message for record in caplog.records] == ["artifacts_without_database"]


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "AVIF"])
async def test_the_size_of_an_uploaded_image_is_known(
    artifacts: ArtifactStore, image_format: str
) -> None:
    """Of every format, though the file is larger than what is held in memory of an upload."""
    image = Image.effect_noise((1800, 1700), 200).convert("RGB")
    file = io.BytesIO()
    image.save(file, image_format, quality=100)
    data = file.getvalue()
    assert len(data) > 2**20

    async def chunks() -> AsyncGenerator[bytes]:
        for start in range(0, len(data), 2**19):
            yield data[start : start + 2**19]

    header = UploadHeader(media_type=f"image/{image_format.lower()}")
    artifact = await artifacts.upload(header, chunks(), "ada")
    assert (artifact.image_size.width, artifact.image_size.height) == (1800, 1700)


async def test_an_output_is_read_from_the_blob_store_when_it_is_not_recent(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    """Large outputs are not held in memory."""
    media = Encoded(media_type="audio/wav", data=bytes(9 * 2**20), width=0, height=0)
    artifact = await artifacts.write_output(new_id(), media)
    assert len(await artifacts.read_output(artifact)) == 9 * 2**20
    (tmp_path / "blobs" / artifact.id).unlink()
    with pytest.raises(DataLossError):
        await artifacts.read_output(artifact)
