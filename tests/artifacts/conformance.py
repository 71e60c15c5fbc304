"""What every blob store must do. A test module of a store subclasses BlobStoreConformance and gives it `blobs`."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import pytest

from atelier_server.artifacts.blobs.base import CHUNK_BYTES, BlobStore
from atelier_server.errors import DataLossError, TooLargeError
from atelier_server.ids import new_id

SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7)
MINUTE = 60.0


def content(size: int) -> bytes:
    """Bytes that differ from place to place."""
    return b"".join(number.to_bytes(4) for number in range(size // 4 + 1))[:size]


async def stream(chunks: Sequence[bytes], error: Exception | None = None) -> AsyncGenerator[bytes]:
    """The chunks, then the error."""
    for chunk in chunks:
        yield chunk
    if error is not None:
        raise error


async def read_from(blobs: BlobStore, blob_id: str, offset: int) -> list[bytes]:
    """The chunks from the offset on."""
    async with aclosing(blobs.read_stream(blob_id, offset)) as chunks:
        return [chunk async for chunk in chunks]


async def ids_older_than(blobs: BlobStore, moment: float) -> list[str]:
    """The ids that the store lists, in order."""
    return sorted([blob_id async for blob_id in blobs.list_older_than(moment)])


class BlobStoreConformance:
    """Holds a BlobStore to its docstrings."""

    @pytest.fixture
    async def blobs(self) -> BlobStore:
        """The empty store under test."""
        raise NotImplementedError

    @pytest.mark.parametrize("size", SIZES)
    async def test_what_was_written_is_read(self, blobs: BlobStore, size: int) -> None:
        """Whole and as a stream; size and digest are those of the bytes."""
        data, blob_id = content(size), new_id()
        info = await blobs.write(blob_id, data)
        assert (info.size, info.sha256) == (size, hashlib.sha256(data).hexdigest())
        assert await blobs.read(blob_id) == data
        chunks = await read_from(blobs, blob_id, 0)
        assert b"".join(chunks) == data
        assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)

    @pytest.mark.parametrize("chunk_size", [1, 1000, CHUNK_BYTES, 2 * CHUNK_BYTES])
    async def test_a_stream_is_one_blob(self, blobs: BlobStore, chunk_size: int) -> None:
        """However it is cut; empty chunks change nothing."""
        data, blob_id = content(3000 if chunk_size == 1 else CHUNK_BYTES + 5), new_id()
        parts = [data[start : start + chunk_size] for start in range(0, len(data), chunk_size)]
        info = await blobs.write_stream(blob_id, stream([b"", *parts, b""]), max_bytes=len(data))
        assert (info.size, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert await blobs.read(blob_id) == data

    async def test_an_empty_stream_is_an_empty_blob(self, blobs: BlobStore) -> None:
        """It exists, and has no bytes."""
        blob_id = new_id()
        assert (await blobs.write_stream(blob_id, stream([]), max_bytes=10)).size == 0
        assert await blobs.read(blob_id) == b""

    @pytest.mark.parametrize("offset", [1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
    async def test_reading_begins_at_the_offset(self, blobs: BlobStore, offset: int) -> None:
        """At the end there is nothing left."""
        data, blob_id = content(2 * CHUNK_BYTES), new_id()
        await blobs.write(blob_id, data)
        assert b"".join(await read_from(blobs, blob_id, offset)) == data[offset:]

    async def test_a_stream_that_is_too_long_leaves_nothing(self, blobs: BlobStore) -> None:
        """One byte more than the limit is refused."""
        blob_id = new_id()
        with pytest.raises(TooLargeError, match="at most 10 bytes"):
            await blobs.write_stream(blob_id, stream([b"12345", b"678901"]), max_bytes=10)
        await self.assert_absent(blobs, blob_id)

    async def test_a_stream_that_breaks_leaves_nothing(self, blobs: BlobStore) -> None:
        """Its error is raised as it is."""
        blob_id = new_id()
        with pytest.raises(ConnectionError, match="reset"):
            await blobs.write_stream(
                blob_id, stream([b"some"], ConnectionError("reset")), max_bytes=10
            )
        await self.assert_absent(blobs, blob_id)

    async def test_a_blob_appears_when_its_write_has_ended(self, blobs: BlobStore) -> None:
        """Not before; a write that is cancelled leaves nothing."""
        blob_id, begun, go_on = new_id(), asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncGenerator[bytes]:
            yield b"begin"
            begun.set()
            await go_on.wait()
            yield b"end"

        writing = asyncio.create_task(blobs.write_stream(blob_id, slow(), max_bytes=10))
        await begun.wait()
        with pytest.raises(DataLossError):
            await blobs.read(blob_id)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
        await self.assert_absent(blobs, blob_id)

        begun.clear()
        writing = asyncio.create_task(blobs.write_stream(blob_id, slow(), max_bytes=10))
        go_on.set()
        await writing
        assert await blobs.read(blob_id) == b"beginend"

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_a_write_that_is_cancelled_at_any_moment_leaves_nothing(
        self, blobs: BlobStore, *, streamed: bool
    ) -> None:
        """Also after its last byte, and while the file is being made."""
        finished = []
        for turns in range(60):
            blob_id = new_id()
            writing = asyncio.create_task(
                blobs.write_stream(blob_id, stream([b"be", b"gin"]), max_bytes=10)
                if streamed
                else blobs.write(blob_id, b"begin")
            )
            for turn in range(turns):
                await asyncio.sleep(0 if turn < 30 else 1e-5)
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
                finished.append(blob_id)
        await asyncio.sleep(0.05)  # for a thread that nobody waited for
        assert await ids_older_than(blobs, time.time() + MINUTE) == sorted(finished)

    async def test_what_is_not_there_is_data_loss(self, blobs: BlobStore) -> None:
        """Never written or deleted, whole or as a stream; the error names the id."""
        blob_id = new_id()
        await self.assert_absent(blobs, blob_id)
        await blobs.write(blob_id, b"here")
        await blobs.delete(blob_id)
        await self.assert_absent(blobs, blob_id)

    async def test_deleting_twice_is_fine(self, blobs: BlobStore) -> None:
        """And deletes nothing else."""
        first, second = new_id(), new_id()
        await blobs.write(first, b"first")
        await blobs.write(second, b"second")
        await blobs.delete(first)
        await blobs.delete(first)
        assert await blobs.read(second) == b"second"

    async def test_old_blobs_are_listed(self, blobs: BlobStore) -> None:
        """Those written before the moment, by either way of writing."""
        assert await ids_older_than(blobs, time.time() + MINUTE) == []
        ids = sorted([new_id(), new_id()])
        await blobs.write(ids[0], b"first")
        await blobs.write_stream(ids[1], stream([b"second"]), max_bytes=10)
        assert await ids_older_than(blobs, time.time() - MINUTE) == []
        assert await ids_older_than(blobs, time.time() + MINUTE) == ids
        await blobs.delete(ids[0])
        assert await ids_older_than(blobs, time.time() + MINUTE) == ids[1:]

    async def test_many_writes_at_once_do_not_mix(self, blobs: BlobStore) -> None:
        """Each id has its own bytes."""
        data = {new_id(): content(1000 * number) for number in range(20)}
        await asyncio.gather(*(blobs.write(blob_id, each) for blob_id, each in data.items()))
        found = await asyncio.gather(*(blobs.read(blob_id) for blob_id in data))
        assert found == list(data.values())

    @staticmethod
    async def assert_absent(blobs: BlobStore, blob_id: str) -> None:
        """The blob is neither read nor listed."""
        with pytest.raises(DataLossError, match=blob_id):
            await blobs.read(blob_id)
        with pytest.raises(DataLossError, match=blob_id):
            await read_from(blobs, blob_id, 0)
        assert blob_id not in await ids_older_than(blobs, time.time() + MINUTE)
