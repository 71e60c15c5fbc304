"""Artifacts: blobs together with what the store knows of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path

from atelier.v1.artifact_pb2 import Artifact, ImageSize, UploadHeader
from atelier_engines.media import Encoded
from atelier_server.artifacts.blobs.filesystem import FileBlobStore, Written
from atelier_server.artifacts.decode import size_of
from atelier_server.artifacts.recent_blobs import RecentBlobs
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.ids import new_id
from atelier_server.metrics import ARTIFACT_BYTES
from atelier_server.store.protocol import Store


class ArtifactStore:
    """Adds, reads and deletes artifacts."""

    def __init__(
        self, store: Store, blobs: FileBlobStore, *, retention_seconds: float, max_upload_bytes: int
    ) -> None:
        """Keep bytes in `blobs` and what is known of them in `store`."""
        self._store = store
        self._blobs = blobs
        self._retention_seconds = retention_seconds
        self._max_upload_bytes = max_upload_bytes
        self._fresh = RecentBlobs()

    async def write_output(self, artifact_id: str, media: Encoded) -> Artifact:
        """Store an output's bytes; the store publishes the artifact when its generation finishes."""
        written = await self._blobs.write(artifact_id, media.data)
        self._fresh.add(artifact_id, media.data)
        ARTIFACT_BYTES.labels("output").observe(written.size)
        artifact = _artifact(artifact_id, media.media_type, written)
        if media.width:
            artifact.image_size.CopyFrom(ImageSize(width=media.width, height=media.height))
        return artifact

    async def add(self, data: bytes, media_type: str, caller: str) -> Artifact:
        """Store bytes that a caller sent along."""
        artifact_id = new_id()
        written = await self._blobs.write(artifact_id, data)
        return await self._publish(_artifact(artifact_id, media_type, written), caller)

    async def upload(
        self, header: UploadHeader, chunks: AsyncIterable[bytes], caller: str
    ) -> Artifact:
        """Store what a caller uploads.

        Raises:
            InvalidRequestError: length or SHA-256 are not what the header says; nothing is kept.
            TooLargeError: more bytes than may be uploaded.
        """
        artifact_id = new_id()
        written = await self._blobs.write_stream(artifact_id, chunks, limit=self._max_upload_bytes)
        try:
            _require_as_said(header, written)
            return await self._publish(_artifact(artifact_id, header.media_type, written), caller)
        except (
            BaseException
        ):  # a caller who hangs up, too: its chunks just end, as if they were all
            await self._blobs.delete(artifact_id)
            raise

    def path_of(self, artifact: Artifact) -> Path:
        """Where the bytes of an output lie."""
        return self._blobs.path_of(artifact.id)

    async def find(self, artifact_id: str, caller: str) -> Artifact:
        """What is known of an artifact.

        Raises:
            NotFoundError: it is unknown, or another caller's.
        """
        return await self._store.get_artifact(caller, artifact_id)

    async def read(self, artifact_id: str, caller: str) -> bytes:
        """All bytes of an artifact.

        Raises:
            NotFoundError: it is unknown, or another caller's.
            DataLossError: its bytes are gone.
        """
        await self.find(artifact_id, caller)
        return await self._blobs.read(artifact_id)

    async def read_output(self, artifact: Artifact) -> bytes:
        """The bytes of an output whose generation is at hand.

        Raises:
            DataLossError: its bytes are gone.
        """
        data = self._fresh.get(artifact.id)
        return await self._blobs.read(artifact.id) if data is None else data

    def chunks(self, artifact: Artifact, offset: int) -> AsyncGenerator[bytes]:
        """The bytes of an artifact from `offset` on.

        Raises:
            DataLossError: its bytes are gone.
        """
        return self._blobs.read_stream(artifact.id, offset)

    async def discard(self, artifact_id: str) -> None:
        """Delete an output whose generation did not succeed."""
        self._fresh.drop(artifact_id)
        await self._blobs.delete(artifact_id)

    async def delete_orphans(self) -> None:
        """Delete the blobs of attempts and uploads that never ended. Only while nothing runs."""
        for artifact_id in await self._store.find_unknown_artifacts(await self._blobs.ids()):
            await self._blobs.delete(artifact_id)

    async def sweep(self, now: float) -> None:
        """Forget what outlived its time, bytes included."""
        for artifact_id in await self._store.sweep(now):
            self._fresh.drop(artifact_id)
            await self._blobs.delete(artifact_id)

    async def _publish(self, artifact: Artifact, caller: str) -> Artifact:
        size = await asyncio.to_thread(size_of, self._blobs.path_of(artifact.id))
        if size is not None:
            artifact.image_size.CopyFrom(ImageSize(width=size[0], height=size[1]))
        artifact.expire_time.FromMicroseconds(
            artifact.create_time.ToMicroseconds() + int(self._retention_seconds * 1e6)
        )
        ARTIFACT_BYTES.labels("input").observe(artifact.size)
        await self._store.add_artifact(caller, artifact)
        return artifact


def _artifact(artifact_id: str, media_type: str, written: Written) -> Artifact:
    artifact = Artifact(
        id=artifact_id, media_type=media_type, size=written.size, sha256=written.sha256
    )
    artifact.create_time.GetCurrentTime()
    return artifact


def _require_as_said(header: UploadHeader, written: Written) -> None:
    violations = []
    if header.HasField("size") and header.size != written.size:
        violations.append(Violation("header.size", f"{written.size} bytes came, not {header.size}"))
    if header.HasField("sha256") and header.sha256 != written.sha256:
        violations.append(
            Violation("header.sha256", f"the bytes have {written.sha256}; send them again")
        )
    if violations:
        raise InvalidRequestError(violations)
