"""Blobs as files in a directory, named by artifact id."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from pathlib import Path

from atelier_server.errors import DataLossError, TooLargeError

CHUNK_BYTES = 512 * 2**10
"""Bytes of one chunk on the wire; the measured optimum for gRPC in Python lies between 256 KiB and 1 MiB."""

_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written."""

    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal."""


class FileBlobStore:
    """Writes blobs so that they are there whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Use, and make if need be, the directory."""
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    async def write(self, artifact_id: str, data: bytes) -> Written:
        """Store the bytes under the id."""
        return await asyncio.to_thread(self._write, artifact_id, data)

    async def write_stream(
        self, artifact_id: str, chunks: AsyncIterable[bytes], *, limit: int
    ) -> Written:
        """Store the chunks under the id; nothing stays behind when they break off.

        Raises:
            TooLargeError: there are more than `limit` bytes.
        """
        partial = self._path / f"{artifact_id}{_PARTIAL}"
        digest, size = hashlib.sha256(), 0
        try:
            with await asyncio.to_thread(partial.open, "wb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > limit:
                        msg = f"an artifact may have at most {limit} bytes"
                        raise TooLargeError(msg)
                    digest.update(chunk)
                    await asyncio.to_thread(file.write, chunk)
            partial.replace(self._path / artifact_id)
        finally:
            partial.unlink(missing_ok=True)
        return Written(size=size, sha256=digest.hexdigest())

    async def read(self, artifact_id: str) -> bytes:
        """All bytes of the blob.

        Raises:
            DataLossError: the file is gone.
        """
        try:
            return await asyncio.to_thread((self._path / artifact_id).read_bytes)
        except FileNotFoundError as error:
            raise _gone(artifact_id) from error

    async def read_stream(self, artifact_id: str, offset: int) -> AsyncGenerator[bytes]:
        """The bytes from `offset` on, in chunks of CHUNK_BYTES.

        Raises:
            DataLossError: the file is gone.
        """
        try:
            file = await asyncio.to_thread((self._path / artifact_id).open, "rb")
        except FileNotFoundError as error:
            raise _gone(artifact_id) from error
        with file:
            file.seek(offset)
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    async def delete(self, artifact_id: str) -> None:
        """Delete the blob, if it is there."""
        await asyncio.to_thread((self._path / artifact_id).unlink, missing_ok=True)

    def path_of(self, artifact_id: str) -> Path:
        """Where the blob lies."""
        return self._path / artifact_id

    async def ids(self) -> list[str]:
        """Ids of all blobs, those of broken writes included."""
        return await asyncio.to_thread(os.listdir, self._path)

    def _write(self, artifact_id: str, data: bytes) -> Written:
        partial = self._path / f"{artifact_id}{_PARTIAL}"
        try:
            partial.write_bytes(data)
            partial.replace(self._path / artifact_id)
        finally:
            partial.unlink(missing_ok=True)
        return Written(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _gone(artifact_id: str) -> DataLossError:
    return DataLossError(f"the bytes of artifact {artifact_id!r} are gone")
