"""Blobs as files of one directory, named by their ids."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from atelier_engines.threads import result_from_thread
from atelier_server.artifacts.blobs.base import CHUNK_BYTES, BlobInfo
from atelier_server.artifacts.blobs.recycled_files import RecycledFiles, open_unrecycled
from atelier_server.errors import DataLossError, StorageError, TooLargeError

_PARTIAL = ".partial"
_RECYCLED = "recycled"


class FileBlobStore:
    """Writes beside the blob, and renames the file at the end; writes into files of deleted blobs where it can.

    See BlobStore. A blob that was written survives the death of the process, with `flush` also that of the machine.
    """

    def __init__(self, directory: Path, *, flush: bool = False) -> None:
        """Use the directory, and create it if it is missing; with `flush` every write waits for the disk."""
        self._directory = directory
        self._flush = flush
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._recycled = RecycledFiles(directory / _RECYCLED)

    async def write(self, blob_id: str, data: bytes) -> BlobInfo:
        """See BlobStore.write."""
        try:
            return await result_from_thread(partial(self.write_now, blob_id, data))
        except asyncio.CancelledError:
            await self.delete(blob_id)
            raise

    @property
    def quick(self) -> bool:
        """See BlobStore.quick."""
        return not self._flush

    def write_now(self, blob_id: str, data: bytes) -> BlobInfo:
        """See BlobStore.write_now.

        Raises:
            StorageError: they cannot be written.
        """
        path = self._directory / blob_id
        with _translate_faults(size=len(data)):
            if self._recycled.write(path, data, flush=self._flush):
                self._flush_names()
            else:
                self._write_new(blob_id, data)
        return BlobInfo(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def write_stream(
        self, blob_id: str, chunks: AsyncIterable[bytes], *, max_bytes: int
    ) -> BlobInfo:
        """See BlobStore.write_stream.

        Raises:
            TooLargeError: there are more than `max_bytes`.
            StorageError: they cannot be written.
        """
        try:
            written = await self._write_partial(blob_id, chunks, max_bytes)
            with _translate_faults():
                await result_from_thread(partial(self._rename, blob_id))
        except BaseException:  # also when it is cancelled after the last byte
            self._delete((blob_id,))
            raise
        return written

    async def read(self, blob_id: str) -> bytes:
        """See BlobStore.read.

        Raises:
            DataLossError: there is no such file.
            StorageError: it cannot be read.
        """
        return await asyncio.to_thread(self._read, blob_id)

    async def read_stream(self, blob_id: str, offset: int) -> AsyncGenerator[bytes]:
        """See BlobStore.read_stream.

        Raises:
            DataLossError: there is no such file.
        """
        with _translate_faults(blob_id):
            file = await asyncio.to_thread(open_unrecycled, self._directory / blob_id)
        with file:
            file.seek(offset)
            while True:
                with _translate_faults():
                    chunk = await asyncio.to_thread(file.read, CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    async def delete(self, *blob_ids: str) -> None:
        """See BlobStore.delete."""
        await asyncio.to_thread(self._delete, blob_ids)

    async def list_older_than(self, time: float) -> AsyncGenerator[str]:
        """See BlobStore.list_older_than."""
        for blob_id in await asyncio.to_thread(self._list_older_than, time):
            yield blob_id

    def _partial(self, blob_id: str) -> Path:
        """Where a blob is written before it appears."""
        return self._directory / f"{blob_id}{_PARTIAL}"

    async def _write_partial(
        self, blob_id: str, chunks: AsyncIterable[bytes], max_bytes: int
    ) -> BlobInfo:
        digest, size = hashlib.sha256(), 0
        with ExitStack() as stack:
            with _translate_faults():
                file = await result_from_thread(partial(self._open_partial, blob_id, stack))
            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise TooLargeError.of_upload(max_bytes)
                digest.update(chunk)
                with _translate_faults():
                    await result_from_thread(partial(file.write, chunk))
            with _translate_faults():
                await result_from_thread(partial(self._flush_file, file))
        return BlobInfo(size=size, sha256=digest.hexdigest())

    def _open_partial(self, blob_id: str, stack: ExitStack) -> IO[bytes]:
        """A file that `stack` closes, also if nobody waits for it any more."""
        return stack.enter_context(_open_new(self._partial(blob_id)))

    def _rename(self, blob_id: str) -> None:
        """Let the blob appear."""
        self._partial(blob_id).replace(self._directory / blob_id)
        self._flush_names()

    def _write_new(self, blob_id: str, data: bytes) -> None:
        unfinished = self._partial(blob_id)
        try:
            with _open_new(unfinished) as file:
                file.write(data)
                self._flush_file(file)
            self._rename(blob_id)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _flush_file(self, file: IO[bytes]) -> None:
        file.flush()
        if self._flush:
            os.fsync(file.fileno())

    def _flush_names(self) -> None:
        """Have the names of the directory on the disk too, if that is wanted."""
        if self._flush:
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _read(self, blob_id: str) -> bytes:
        with _translate_faults(blob_id), open_unrecycled(self._directory / blob_id) as file:
            return file.read()

    def _delete(self, blob_ids: tuple[str, ...]) -> None:
        for blob_id in blob_ids:
            if not self._recycled.take(self._directory / blob_id):
                self._partial(blob_id).unlink(missing_ok=True)

    def _list_older_than(self, time: float) -> list[str]:
        with os.scandir(self._directory) as entries:
            return [
                entry.name.removesuffix(_PARTIAL)
                for entry in entries
                if entry.is_file() and entry.stat().st_mtime < time
            ]


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open_new(path: Path) -> IO[bytes]:
    """A file that its owner alone may read."""
    return open(path, "wb", opener=_open_private)


@contextmanager
def _translate_faults(blob_id: str = "", size: int = 0) -> Generator[None]:
    """Turn an OSError into a StorageError, or the lack of the blob's file into a DataLossError.

    `size` is the number of bytes to write.
    """
    try:
        yield
    except OSError as error:
        if blob_id and isinstance(error, FileNotFoundError):
            msg = f"the bytes of artifact {blob_id!r} are gone"
            raise DataLossError(msg) from error
        raise StorageError.from_fault(error.strerror or type(error).__name__, size=size) from error
