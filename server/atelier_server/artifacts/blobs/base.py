"""The protocol of blob stores: bytes under an id, written whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 512 * 2**10
"""Size of one chunk on the wire; the measured optimum for gRPC in Python lies between 256 KiB and 1 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """Size and digest of a blob that was written."""

    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal."""


class BlobStore(Protocol):
    """Keeps bytes under ids of 26 characters a to z and 0 to 9.

    Any number of processes may use one store at a time. A blob appears when its write has ended, and never changes
    afterwards. The suite in `tests/artifacts/conformance.py` holds every implementation to these docstrings.
    """

    async def write(self, blob_id: str, data: bytes) -> BlobInfo:
        """Store the bytes. Nothing remains if it fails or is cancelled.

        Raises:
            StorageError: they cannot be written.
        """
        ...

    @property
    def quick(self) -> bool:
        """Whether `write_now` never waits for a disk or a network."""
        ...

    def write_now(self, blob_id: str, data: bytes) -> BlobInfo:
        """As `write`, in the calling thread, which may be any; again for the same id if it failed, or is repeated.

        Raises:
            StorageError: they cannot be written.
        """
        ...

    async def write_stream(
        self, blob_id: str, chunks: AsyncIterable[bytes], *, max_bytes: int
    ) -> BlobInfo:
        """Store all chunks as one blob. Nothing remains if the stream raises, or if the call is cancelled.

        Raises:
            TooLargeError: there are more than `max_bytes`.
            StorageError: they cannot be written.
        """
        ...

    async def read(self, blob_id: str) -> bytes:
        """Read the whole blob.

        Raises:
            DataLossError: there is no such blob.
            StorageError: it cannot be read.
        """
        ...

    def read_stream(self, blob_id: str, offset: int) -> AsyncGenerator[bytes]:
        """Read from `offset` to the end, in chunks of at most CHUNK_BYTES; nothing if the offset is the size.

        Raises:
            DataLossError: there is no such blob.
        """
        ...

    async def delete(self, *blob_ids: str) -> None:
        """Delete the blobs and whatever interrupted writes of them left; does nothing if there is neither.

        Who reads a blob meanwhile reads it to its end, or gets a DataLossError.
        """
        ...

    def list_older_than(self, time: float) -> AsyncGenerator[str]:
        """List the ids of all blobs, and of interrupted writes, that were last written before this Unix time."""
        ...
