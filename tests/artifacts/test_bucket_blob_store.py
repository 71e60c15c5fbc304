"""Blobs in a bucket pass the suite that every blob store passes, against a real S3-compatible server."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator

import pytest

from atelier_server.artifacts.blobs.base import CHUNK_BYTES, BlobStore
from atelier_server.artifacts.blobs.bucket import BucketBlobStore
from atelier_server.config.artifact_settings import ArtifactSettings
from atelier_server.errors import DataLossError, StorageError
from atelier_server.ids import new_id
from tests.artifacts.bucket_server import SECRET_ACCESS_KEY, BucketServer
from tests.artifacts.conformance import (
    MINUTE,
    BlobStoreConformance,
    content,
    ids_older_than,
    read_from,
    stream,
)

MANY_PARTS = 20 * 2**20 + 1


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    """One server for all tests here."""
    server = BucketServer(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(running: BucketServer) -> BucketServer:
    """The server, with nothing in its bucket."""
    running.clear()
    return running


def open_bucket(server: BucketServer, /, **changes: object) -> BucketBlobStore:
    """A blob store with the settings of the server, and these."""
    return BucketBlobStore(ArtifactSettings.model_validate({**server.settings, **changes}))


@pytest.fixture
def blobs(bucket: BucketServer) -> Iterator[BucketBlobStore]:
    """A blob store in the empty bucket."""
    opened = open_bucket(bucket)
    yield opened
    opened.close()


class TestBucketBlobStore(BlobStoreConformance):
    """See BlobStoreConformance."""

    @pytest.fixture
    async def blobs(self, bucket: BucketServer) -> AsyncGenerator[BlobStore]:
        """In the empty bucket."""
        opened = open_bucket(bucket)
        yield opened
        opened.close()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_large_blob_goes_in_parts(
    blobs: BucketBlobStore, bucket: BucketServer, *, streamed: bool
) -> None:
    """They become one object; reading begins anywhere in it, and nothing else is left."""
    data, blob_id = content(MANY_PARTS), new_id()
    if streamed:
        chunks = [data[place : place + CHUNK_BYTES] for place in range(0, len(data), CHUNK_BYTES)]
        info = await blobs.write_stream(blob_id, stream(chunks), max_bytes=len(data))
    else:
        info = await blobs.write(blob_id, data)
    assert (info.size, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for offset in (0, 4 * 2**20 - 1, 2**24, len(data) - 1):
        assert b"".join(await read_from(blobs, blob_id, offset)) == data[offset:]
    assert bucket.count_parts() == 0


async def test_a_large_stream_that_breaks_leaves_no_parts(
    blobs: BucketBlobStore, bucket: BucketServer
) -> None:
    """Whoever pays for the bucket would pay for them."""
    chunks = [bytes(CHUNK_BYTES)] * (MANY_PARTS // CHUNK_BYTES)
    with pytest.raises(ConnectionError):
        await blobs.write_stream(new_id(), stream(chunks, ConnectionError()), max_bytes=2**30)
    assert bucket.count_parts() == 0
    assert await ids_older_than(blobs, time.time() + MINUTE) == []


async def test_objects_of_others_are_not_listed(bucket: BucketServer) -> None:
    """What is listed may be deleted: beside ours, in our folder and in other folders."""
    blobs, other = open_bucket(bucket, prefix="a/b"), open_bucket(bucket, prefix="a")
    mine, theirs = f"{new_id()}-1-0", new_id()
    await blobs.write(mine, b"mine")
    await other.write(theirs, b"theirs")
    for name in ("notes.txt", "folder/file", "UPPERCASE0000000000000000A"):
        path = bucket.bucket / "a" / "b" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"others")
    assert await ids_older_than(blobs, time.time() + MINUTE) == [mine]
    assert await ids_older_than(other, time.time() + MINUTE) == [theirs]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bucket": "no-such-bucket"}, "answers NoSuchBucket"),
        ({"secret_access_key": "wrong"}, "answers SignatureDoesNotMatch|refuses our keys"),
        ({"access_key_id": "nobody"}, "answers XAdminUserNotFound"),
        ({"endpoint": "http://127.0.0.1:9"}, "does not answer"),
    ],
)
async def test_a_fault_of_the_store_is_a_storage_error(
    bucket: BucketServer, changes: dict[str, object], message: str
) -> None:
    """Not a lost blob: it may work again. The message for callers names no address and no key."""
    blobs = open_bucket(bucket, timeout_seconds=1, **changes)
    for call in (
        blobs.write(new_id(), b"bytes"),
        blobs.write_stream(new_id(), stream([b"bytes"]), max_bytes=10),
        blobs.read(new_id()),
        read_from(blobs, new_id(), 0),
        ids_older_than(blobs, 0),
    ):
        with pytest.raises(StorageError, match=message) as raised:
            await call
        assert "127.0.0.1" not in str(raised.value)
        assert SECRET_ACCESS_KEY not in str(raised.value)


async def test_a_server_that_comes_back_has_all(
    blobs: BucketBlobStore, bucket: BucketServer
) -> None:
    """Between two starts of it there are storage errors."""
    blob_id = new_id()
    await blobs.write(blob_id, b"kept")
    bucket.stop()
    try:
        with pytest.raises(StorageError, match="does not answer"):
            await blobs.read(blob_id)
    finally:
        bucket.start()
    assert await blobs.read(blob_id) == b"kept"


async def test_a_blob_that_is_deleted_while_it_is_read_is_data_loss(blobs: BucketBlobStore) -> None:
    """The stream does not just end."""
    data, blob_id = content(MANY_PARTS), new_id()
    await blobs.write(blob_id, data)
    chunks = blobs.read_stream(blob_id, 0)
    await anext(chunks)
    await blobs.delete(blob_id)
    with pytest.raises(DataLossError, match=blob_id):
        [chunk async for chunk in chunks]


async def test_many_reads_at_once(blobs: BucketBlobStore) -> None:
    """More than there are threads."""
    data = {new_id(): content(1000 + number) for number in range(40)}
    await asyncio.gather(*(blobs.write(blob_id, each) for blob_id, each in data.items()))
    found = await asyncio.gather(*(read_from(blobs, blob_id, 0) for blob_id in data))
    assert [b"".join(chunks) for chunks in found] == list(data.values())
