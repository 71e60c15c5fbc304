"""Blobs as objects of a bucket of an S3-compatible store."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from atelier_engines.threads import result_from_thread
from atelier_server.artifacts.blobs.base import CHUNK_BYTES, BlobInfo
from atelier_server.config.artifact_settings import ArtifactSettings
from atelier_server.errors import DataLossError, StorageError, TooLargeError

if TYPE_CHECKING:  # names that exist for type checkers alone
    from obstore import ListStream, ObjectMeta
    from obstore.store import S3Config

ResultT = TypeVar("ResultT")
_THREADS = 16  # of their own: a store that does not answer holds no thread that others need
_PART_BYTES = 8 * 2**20  # of a multipart upload; S3 takes 5 MiB to 5 GiB, and 10,000 of them
_PARTS_AT_ONCE = 4
_RETRIES = 2
_ERROR_CODE = re.compile(
    r"<Code>(\w+)</Code>"
)  # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_NO_OBJECT = "the bucket answers NoSuchKey"
_CONNECT_TIMEOUT = timedelta(seconds=5)
_RANGE_BYTES = (
    4 * 2**20
)  # read in one request, whose time does not depend on how slowly a caller reads
_MEMORY_BYTES = (
    8 * 2**20
)  # of an upload that is being received; the rest of it waits in a temporary file
_BLOB_ID = re.compile(r"[0-9a-z]{26}(-[0-9]+){0,2}")
"""Names that are ours: artifacts, and outputs by generation, attempt and number."""


class BucketBlobStore:
    """Writes an object in one request, or in parts that appear together at the end; see BlobStore.

    It uses the blocking calls of `obstore` in threads of its own: with the asynchronous ones of 0.12.1 a process that
    ends within some 20 ms of a call is aborted. A stream is received whole before it is sent, so that one that breaks
    leaves no parts in the bucket.
    """

    def __init__(self, settings: ArtifactSettings) -> None:
        """Use the bucket, which must exist; nothing is sent yet."""
        self._store = _open(settings)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bucket")

    def close(self) -> None:
        """Wait for what is being sent."""
        self._threads.shutdown()

    @property
    def quick(self) -> bool:
        """See BlobStore.quick."""
        return False

    async def write(self, blob_id: str, data: bytes) -> BlobInfo:
        """See BlobStore.write."""
        try:
            return await self._run(partial(self.write_now, blob_id, data))
        except asyncio.CancelledError:
            await self.delete(blob_id)
            raise

    def write_now(self, blob_id: str, data: bytes) -> BlobInfo:
        """See BlobStore.write_now.

        Raises:
            StorageError: the store does not take them.
        """
        self._put(blob_id, data, size=len(data))
        return BlobInfo(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    async def write_stream(
        self, blob_id: str, chunks: AsyncIterable[bytes], *, max_bytes: int
    ) -> BlobInfo:
        """See BlobStore.write_stream.

        Raises:
            TooLargeError: there are more than `max_bytes`.
            StorageError: the store does not take them, or the temporary file does not.
        """
        with tempfile.SpooledTemporaryFile(_MEMORY_BYTES) as spool:
            blob = await self._receive(chunks, spool, max_bytes)
            spool.seek(0)
            try:
                await self._run(partial(self._put, blob_id, spool, size=blob.size))
            except asyncio.CancelledError:
                await self.delete(blob_id)
                raise
        return blob

    async def read(self, blob_id: str) -> bytes:
        """See BlobStore.read.

        Raises:
            DataLossError: there is no such object.
            StorageError: the store does not answer.
        """
        return await self._run(partial(self._get, blob_id))

    async def read_stream(self, blob_id: str, offset: int) -> AsyncGenerator[bytes]:
        """See BlobStore.read_stream.

        Raises:
            DataLossError: there is no such object.
        """
        size = await self._run(partial(self._size, blob_id))
        for start in range(offset, size, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size)
            data = await self._run(partial(self._get_range, blob_id, start, end))
            for place in range(0, len(data), CHUNK_BYTES):
                yield data[place : place + CHUNK_BYTES]

    async def delete(self, *blob_ids: str) -> None:
        """See BlobStore.delete."""
        if blob_ids:
            await self._run(partial(self._delete, blob_ids))

    async def list_older_than(self, time: float) -> AsyncGenerator[str]:
        """See BlobStore.list_older_than.

        Of objects that others keep beside them nothing is listed. Parts of an interrupted write are not either: the
        bucket's own rule (AbortIncompleteMultipartUpload) removes them.
        """
        pages = obstore.list(self._store)
        while page := await self._run(partial(_next_page, pages)):
            for found in page:
                name = found["path"]
                if found["last_modified"].timestamp() < time and _BLOB_ID.fullmatch(name):
                    yield name

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        return await result_from_thread(work, executor=self._threads)

    async def _receive(
        self, chunks: AsyncIterable[bytes], spool: IO[bytes], max_bytes: int
    ) -> BlobInfo:
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLargeError.of_upload(max_bytes)
            digest.update(chunk)
            with _translate_faults(size=size):
                await self._run(partial(spool.write, chunk))
        return BlobInfo(size=size, sha256=digest.hexdigest())

    def _put(self, blob_id: str, data: bytes | IO[bytes], *, size: int) -> None:
        with _translate_faults(size=size):
            obstore.put(
                self._store,
                blob_id,
                data,
                use_multipart=size > _PART_BYTES,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def _get(self, blob_id: str) -> bytes:
        with _translate_faults(blob_id):
            return obstore.get(self._store, blob_id).bytes().to_bytes()

    def _get_range(self, blob_id: str, start: int, end: int) -> bytes:
        with _translate_faults(blob_id):
            return obstore.get_range(self._store, blob_id, start=start, end=end).to_bytes()

    def _size(self, blob_id: str) -> int:
        """The size of the object."""
        with _translate_faults(), suppress(FileNotFoundError):
            return obstore.head(self._store, blob_id)["size"]
        return len(self._get(blob_id))  # answers to HEAD have no text that says what is missing

    def _delete(self, blob_ids: tuple[str, ...]) -> None:
        with _translate_faults():
            obstore.delete(self._store, list(blob_ids))


def _open(settings: ArtifactSettings) -> S3Store:
    """A client of the bucket. Keys that the settings leave out come from where AWS' own tools look for them."""
    timeout = timedelta(seconds=settings.timeout_seconds)
    config: S3Config = {}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if settings.region is not None:
        config["region"] = settings.region
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        config["access_key_id"] = settings.access_key_id.get_secret_value()
        config["secret_access_key"] = settings.secret_access_key.get_secret_value()
    return S3Store(
        settings.bucket,
        prefix=settings.prefix or None,
        config=config,
        client_options={
            "allow_http": True,  # whoever writes http:// as the endpoint means it
            "connect_timeout": min(timeout, _CONNECT_TIMEOUT),
            "timeout": timeout,
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": 3 * timeout},
    )


def _next_page(pages: ListStream[Sequence[ObjectMeta]]) -> Sequence[ObjectMeta]:
    """The next page of a listing; empty after the last."""
    with _translate_faults():
        return next(pages, ())


@contextmanager
def _translate_faults(blob_id: str = "", size: int = 0) -> Generator[None]:
    """Turn a fault of the store into a StorageError, or the lack of the blob's object into a DataLossError.

    `size` is the number of bytes to write.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        cause = _find_cause(error)
        if blob_id and cause == _NO_OBJECT:
            msg = f"the bytes of artifact {blob_id!r} are gone"
            raise DataLossError(msg) from error
        raise StorageError.from_fault(cause, size=size) from error


def _find_cause(error: BaseError | OSError) -> str:
    """What is wrong, for callers: the whole text has addresses.

    A store's own code decides, and not the error's type: a FileNotFoundError is also a missing bucket, and from one
    store (Versity's, 1.8.0) an unknown key.
    """
    found = _ERROR_CODE.search(str(error))
    if found is not None:
        return f"the bucket answers {found[1]}"
    match error:
        case PermissionDeniedError() | UnauthenticatedError():
            return "the bucket refuses our keys"
        case OSError(strerror=str() as text):
            return text
        case _:
            return "the bucket does not answer"
