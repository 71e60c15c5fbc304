"""Artifacts: their bytes in a blob store, and what is known of them in the store."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing, asynccontextmanager

from atelier.v1.artifact_pb2 import Artifact, ImageSize, UploadHeader
from atelier_engines.decoding.header import read_stored_size
from atelier_engines.media import Encoded
from atelier_server.artifacts.accepted_media import require_media
from atelier_server.artifacts.blobs.base import BlobInfo, BlobStore
from atelier_server.artifacts.integrity import require_intact, verify_stream
from atelier_server.clock import current_timestamp, steady_time
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.ids import new_id
from atelier_server.metrics import ARTIFACT_BYTES, histogram
from atelier_server.store.protocol import Store
from atelier_server.store.quotas import Allowance

_log = logging.getLogger(__name__)
_MAX_HEAD_BYTES = 2**20
"""Beginning of an upload that is held in memory to read the size of an image from."""
_MAX_RECENT_BYTES = 32 * 2**20
_MAX_BYTES_AT_END = 2 * 2**20  # their digest takes about a millisecond, for which other writes wait
_ORPHANS_AT_ONCE = 1000
_MAX_SWEEP_SECONDS = 5.0  # then other periodic work has its turn
_ORPHAN_AGE_SECONDS = 86_400.0  # longer than any attempt or upload takes
_ADVICE = (
    "the database is empty, but files of artifacts exist: they are kept, and no call can read them; stop the server "
    "and restore atelier.db with its -wal and -shm files, or delete the files if they are of no use"
)


class ArtifactStore:
    """Adds, reads and deletes artifacts."""

    def __init__(
        self, store: Store, blobs: BlobStore, *, retention_seconds: float, max_upload_bytes: int
    ) -> None:
        """Keep bytes in `blobs` and records in `store`."""
        self._store = store
        self._blobs = blobs
        self._retention_seconds = retention_seconds
        self._max_upload_bytes = max_upload_bytes
        self._recent = RecentBlobs()
        self._keeps_unknown = False

    async def write_output(self, artifact_id: str, media: Encoded) -> Artifact:
        """Store the bytes of an output; the store publishes the artifact when its generation finishes."""
        blob = await self._blobs.write(artifact_id, media.data)
        self._recent.add(artifact_id, media.data)
        return _make_output(artifact_id, media, blob)

    def may_write_at_end(self, media: Encoded) -> bool:
        """Whether the output is small enough, and the blob store quick enough, for `write_output_now`."""
        return self._blobs.quick and len(media.data) <= _MAX_BYTES_AT_END

    def hold(self, artifact_id: str, media: Encoded) -> None:
        """Hold the bytes of an output that `write_output_now` is about to write."""
        self._recent.add(artifact_id, media.data)

    def write_output_now(self, artifact_id: str, media: Encoded) -> Artifact:
        """As `write_output`, in the calling thread, which may be any.

        Raises:
            StorageError: they cannot be written.
        """
        return _make_output(artifact_id, media, self._blobs.write_now(artifact_id, media.data))

    async def add(self, data: bytes, media_type: str, caller: str) -> Artifact:
        """Store bytes that a caller attached to a request."""
        artifact_id = new_id()
        blob = await self._blobs.write(artifact_id, data)
        async with self._delete_on_failure(artifact_id):
            return await self._publish(_make_artifact(artifact_id, media_type, blob), data, caller)

    async def upload(
        self,
        header: UploadHeader,
        chunks: AsyncIterable[bytes],
        caller: str,
        allowance: Allowance | None = None,
    ) -> Artifact:
        """Store an upload.

        Raises:
            TenantQuotaError: the caller has meanwhile stored as much as its allowance says.
            InvalidRequestError: it is empty or of a type that no engine takes, or its size or SHA-256 differ from the
                header; nothing is kept.
            TooLargeError: there are more bytes than may be uploaded.
        """
        artifact_id = new_id()
        head = bytearray()
        blob = await self._blobs.write_stream(
            artifact_id, _copy_head(chunks, head), max_bytes=self._max_upload_bytes
        )
        async with self._delete_on_failure(artifact_id):
            _require_match(header, blob)
            require_media(header.media_type, bytes(head))
            artifact = _make_artifact(artifact_id, header.media_type, blob)
            return await self._publish(artifact, bytes(head), caller, allowance)

    async def find(self, artifact_id: str, caller: str) -> Artifact:
        """The record of an artifact.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller.
        """
        return await self._store.get_artifact(caller, artifact_id)

    async def read(self, artifact: Artifact) -> bytes:
        """All bytes of an artifact that `find` returned.

        Raises:
            DataLossError: its bytes are gone or damaged.
        """
        return await require_intact(artifact, await self._blobs.read(artifact.id))

    async def read_output(self, artifact: Artifact) -> bytes:
        """All bytes of an output, which the caller has access to.

        Raises:
            DataLossError: its bytes are gone or damaged.
        """
        data = self._recent.get(artifact.id)
        return await self.read(artifact) if data is None else data

    def read_stream(self, artifact: Artifact, offset: int) -> AsyncGenerator[bytes]:
        """The bytes of an artifact from `offset` on.

        Raises:
            DataLossError: its bytes are gone or damaged.
        """
        return verify_stream(artifact, self._blobs.read_stream(artifact.id, 0), offset)

    async def delete(self, artifact_ids: Sequence[str]) -> None:
        """Delete artifacts that no generation needs, records and bytes."""
        if artifact_ids:
            await self._store.delete_artifacts(artifact_ids)
            await self.discard(*await self._store.find_unknown_artifacts(artifact_ids))

    async def discard(self, *artifact_ids: str) -> None:
        """Delete the bytes of artifacts that have no record."""
        for artifact_id in artifact_ids:
            self._recent.drop(artifact_id)
        await self._blobs.delete(*artifact_ids)

    async def keep_unknown(self) -> None:
        """Delete no blob without a record as long as the process runs, if the database has no record at all.

        They may be all that is left of a database that was lost.
        """
        self._keeps_unknown = await self._store.is_empty()

    async def delete_abandoned(self) -> None:
        """Delete what interrupted attempts left, while none is running.

        These are blobs without a record whose generation has one. Others may be all that is left of a lost database:
        they are kept until `delete_orphans`, or as `keep_unknown` says.
        """
        await self.keep_unknown()
        count = 0
        async with aclosing(self._list_orphans(older_than=math.inf)) as pages:
            async for orphans in pages:
                count += len(orphans)
                if not self._keeps_unknown:
                    await self._delete_known(orphans)
        if self._keeps_unknown and count:
            _log.warning("artifacts_without_database", extra={"count": count, "advice": _ADVICE})

    async def delete_orphans(self, now: float) -> None:
        """Delete blobs without a record that were written long before this Unix time.

        A younger blob may belong to an attempt or an upload that is still running, here or in another process; or to
        a database that was lost, and then it is kept as long as its record would have been.
        """
        if self._keeps_unknown:
            return
        age = max(_ORPHAN_AGE_SECONDS, self._retention_seconds)
        async with aclosing(self._list_orphans(older_than=now - age)) as pages:
            async for orphans in pages:
                await self._blobs.delete(*orphans)

    async def delete_expired(self) -> None:
        """Delete what has outlived its retention, with its bytes; what takes long is continued by the next call."""
        end = time.monotonic() + _MAX_SWEEP_SECONDS
        async with aclosing(self._store.sweep(steady_time())) as deleted:
            async for artifact_ids in deleted:
                if artifact_ids:
                    await self.discard(*artifact_ids)
                if time.monotonic() > end:
                    return

    async def _delete_known(self, orphans: Sequence[str]) -> None:
        """Delete those of the outputs whose generation has a record."""
        generations = {orphan.partition("-")[0] for orphan in orphans}
        known = set(await self._store.find_known_generations(sorted(generations)))
        await self._blobs.delete(
            *(orphan for orphan in orphans if orphan.partition("-")[0] in known)
        )

    async def _list_orphans(self, *, older_than: float) -> AsyncGenerator[Sequence[str]]:
        """Ids of the blobs without a record that were written before this Unix time, some at a time."""
        ids: list[str] = []
        async with aclosing(self._blobs.list_older_than(older_than)) as blobs:
            async for blob_id in blobs:
                ids.append(blob_id)
                if len(ids) >= _ORPHANS_AT_ONCE:
                    yield await self._store.find_unknown_artifacts(ids)
                    ids = []
        yield await self._store.find_unknown_artifacts(ids)

    @asynccontextmanager
    async def _delete_on_failure(self, artifact_id: str) -> AsyncGenerator[None]:
        """Keep nothing of what fails, also when the caller disconnects: its stream then just ends."""
        try:
            yield
        except BaseException:
            await self.delete(
                [artifact_id]
            )  # a record that was being written has been written by now
            raise

    async def _publish(
        self, artifact: Artifact, head: bytes, caller: str, allowance: Allowance | None = None
    ) -> Artifact:
        size = await asyncio.to_thread(read_stored_size, head)
        if size is not None:
            artifact.image_size.CopyFrom(ImageSize(width=size[0], height=size[1]))
        artifact.expire_time.FromMicroseconds(
            artifact.create_time.ToMicroseconds() + int(self._retention_seconds * 1e6)
        )
        histogram(ARTIFACT_BYTES, "input").observe(artifact.size)
        await self._store.add_artifact(caller, artifact, allowance=allowance)
        return artifact


class RecentBlobs:
    """The bytes of the newest outputs, which callers usually ask for at once; the oldest are dropped first."""

    def __init__(self, max_bytes: int = _MAX_RECENT_BYTES) -> None:
        """Hold at most this many bytes."""
        self._max_bytes = max_bytes
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def add(self, blob_id: str, data: bytes) -> None:
        """Hold the bytes, unless they are more than a quarter of the maximum."""
        if len(data) > self._max_bytes // 4:
            return
        self.drop(blob_id)
        self._blobs[blob_id] = data
        self._size += len(data)
        while self._size > self._max_bytes:
            _, oldest = self._blobs.popitem(last=False)
            self._size -= len(oldest)

    def get(self, blob_id: str) -> bytes | None:
        """The bytes, if they are held."""
        return self._blobs.get(blob_id)

    def drop(self, blob_id: str) -> None:
        """Hold the bytes no longer."""
        self._size -= len(self._blobs.pop(blob_id, b""))


async def _copy_head(chunks: AsyncIterable[bytes], head: bytearray) -> AsyncGenerator[bytes]:
    """Pass the chunks on, and copy the first _MAX_HEAD_BYTES of them."""
    async for chunk in chunks:
        if len(head) < _MAX_HEAD_BYTES:
            head += chunk[: _MAX_HEAD_BYTES - len(head)]
        yield chunk


def _make_output(artifact_id: str, media: Encoded, blob: BlobInfo) -> Artifact:
    histogram(ARTIFACT_BYTES, "output").observe(blob.size)
    artifact = _make_artifact(artifact_id, media.media_type, blob)
    if media.width:
        artifact.image_size.CopyFrom(ImageSize(width=media.width, height=media.height))
    return artifact


def _make_artifact(artifact_id: str, media_type: str, blob: BlobInfo) -> Artifact:
    return Artifact(
        id=artifact_id,
        media_type=media_type,
        size=blob.size,
        sha256=blob.sha256,
        create_time=current_timestamp(),
    )


def _require_match(header: UploadHeader, blob: BlobInfo) -> None:
    violations = []
    if header.HasField("size") and header.size != blob.size:
        violations.append(
            Violation("header.size", f"{blob.size} bytes were received, not {header.size}")
        )
    if header.HasField("sha256") and header.sha256 != blob.sha256:
        violations.append(
            Violation("header.sha256", f"the received bytes have {blob.sha256}; send them again")
        )
    if violations:
        raise InvalidRequestError(violations)
