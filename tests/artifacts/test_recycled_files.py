"""Files of deleted blobs are overwritten by later ones, and never while anybody reads them."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from atelier_server.artifacts.blobs.base import CHUNK_BYTES
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.errors import DataLossError, StorageError
from tests.artifacts.conformance import content, read_from

MIB = 2**20


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    """An empty store."""
    return FileBlobStore(tmp_path)


@pytest.mark.parametrize("size", [1, 1000, MIB, 3 * MIB])
async def test_the_file_of_a_deleted_blob_is_used_again(
    blobs: FileBlobStore, tmp_path: Path, size: int
) -> None:
    """A shorter blob is not followed by the rest of the longer one, and a longer one is whole."""
    await blobs.write("first", content(MIB))
    inode = (tmp_path / "first").stat().st_ino
    await blobs.delete("first")
    info = await blobs.write("second", content(size)[::-1])
    assert (tmp_path / "second").stat().st_ino == inode
    assert info.size == (tmp_path / "second").stat().st_size == size
    assert await blobs.read("second") == content(size)[::-1]
    with pytest.raises(DataLossError):
        await blobs.read("first")


async def test_a_blob_that_is_read_is_read_to_its_end(blobs: FileBlobStore) -> None:
    """Whoever began to read it before it was deleted gets its own bytes, not those of a later blob."""
    data = content(4 * CHUNK_BYTES)
    await blobs.write("first", data)
    async with aclosing(blobs.read_stream("first", 0)) as chunks:
        parts = [await anext(chunks)]
        await blobs.delete("first")
        await blobs.write("second", bytes(len(data)))
        parts += [chunk async for chunk in chunks]
    assert b"".join(parts) == data
    assert b"".join(await read_from(blobs, "second", 0)) == bytes(len(data))


async def test_another_process_that_reads_keeps_its_bytes(
    blobs: FileBlobStore, tmp_path: Path
) -> None:
    """A second store of the same directory stands for it: locks belong to open files, not to processes."""
    data = content(4 * CHUNK_BYTES)
    await blobs.write("first", data)
    async with aclosing(FileBlobStore(tmp_path).read_stream("first", 0)) as chunks:
        parts = [await anext(chunks)]
        await blobs.delete("first")
        await blobs.write("second", bytes(len(data)))
        parts += [chunk async for chunk in chunks]
    assert b"".join(parts) == data


async def test_the_kept_bytes_are_bounded(blobs: FileBlobStore, tmp_path: Path) -> None:
    """At most 256 MiB, and none of more than 16 MiB; the next start keeps none."""
    ids = [f"blob{number}" for number in range(18)]
    for blob_id in ids:
        await blobs.write(blob_id, bytes(15 * MIB))
    await blobs.write("large", bytes(17 * MIB))
    await blobs.delete(*ids, "large")
    kept = _list_files(tmp_path / "recycled")
    assert sum(file.stat().st_size for file in kept) == 255 * MIB
    assert _list_files(tmp_path) == []
    FileBlobStore(tmp_path)
    assert not any(file.exists() for file in kept)
    await blobs.write("next", b"written all the same")
    assert await blobs.read("next") == b"written all the same"


async def test_a_failed_write_leaves_nothing(blobs: FileBlobStore, tmp_path: Path) -> None:
    """Neither the blob nor the file that it was written into."""
    await blobs.write("first", content(1000))
    await blobs.delete("first")
    (tmp_path / "second").mkdir()  # the last step, the renaming, fails
    (tmp_path / "second" / "file").touch()
    with pytest.raises(StorageError):
        await blobs.write("second", content(10))
    assert _list_files(tmp_path / "recycled") == []


def _list_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]
