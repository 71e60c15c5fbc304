"""Whether the server can store: free space, faults of the disk or the database, and the wait for their end."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from atelier_server.artifacts.blobs.base import BlobStore
from atelier_server.errors import StorageError
from atelier_server.metrics import STORAGE_FREE_BYTES, STORAGE_UP
from atelier_server.store.protocol import Store

ResultT = TypeVar("ResultT")
_log = logging.getLogger(__name__)
_TEST_BLOB = "storagetest000000000000000"
_TEST_BYTES = 4096  # written in a test; more once a larger write has failed
_FIRST_SECONDS = 3.0
_TEST_INTERVAL_SECONDS = 10.0  # between tests while there is no fault


class StorageMonitor:
    """Knows whether data can be stored. During a fault nothing is claimed, and what runs waits to write its results."""

    def __init__(
        self, directory: Path, store: Store, blobs: BlobStore, *, min_free_bytes: int
    ) -> None:
        """Watch the file system of `directory`, and refuse new work while it has less than `min_free_bytes`."""
        self._directory = directory
        self._store = store
        self._blobs = blobs
        self._min_free_bytes = min_free_bytes
        self._writable = asyncio.Event()
        self._writable.set()
        self._fault = ""
        self._shortage = ""
        self._test_bytes = _TEST_BYTES
        self._tested = 0.0
        self._first: asyncio.Future[None] | None = None
        STORAGE_UP.set(1)

    @property
    def message(self) -> str:
        """Why no new work is accepted; empty if it is."""
        return self._fault or self._shortage

    @property
    def writable(self) -> bool:
        """Whether writes succeed, as far as is known; work that was accepted may use the reserve of free bytes."""
        return self._writable.is_set()

    def require_space(self) -> None:
        """Return if new work can be stored.

        Raises:
            StorageError: a fault lasts, or too few bytes are free.
        """
        if self.message:
            raise StorageError(self.message)

    async def wait_writable(self) -> None:
        """Return when no fault is known."""
        await self._writable.wait()

    async def retry(self, write: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Write, again after each fault of the storage, until it succeeds."""
        while True:
            await self._writable.wait()
            try:
                return await write()
            except StorageError as error:
                self.report(error)

    def report(self, error: StorageError) -> None:
        """Record a fault; it lasts until a test write of at least the same size succeeds."""
        self._test_bytes = max(self._test_bytes, error.size)
        if not self._fault:
            _log.error("storage_failed", exc_info=error)
            STORAGE_UP.set(0)
        self._fault = str(error)
        self._writable.clear()

    async def check_first(self) -> None:
        """As `check`, but waits for a few seconds only: a server listens, and says why it is not ready."""
        self._first = asyncio.ensure_future(self.check())
        await asyncio.wait({self._first}, timeout=_FIRST_SECONDS)
        if not self._first.done():
            self.report(StorageError.from_fault("a first write has not ended"))

    async def check(self) -> None:
        """Measure the free space; test whether writes succeed, at once during a fault and now and then without."""
        try:
            self._measure(await asyncio.to_thread(os.statvfs, self._directory))
            if self._fault or time.monotonic() - self._tested > _TEST_INTERVAL_SECONDS:
                self._tested = time.monotonic()
                await self._test()
        except StorageError as error:
            self.report(error)
        except OSError as error:
            self.report(StorageError.from_fault(error.strerror or ""))

    def _measure(self, found: os.statvfs_result) -> None:
        free = found.f_bavail * found.f_frsize
        STORAGE_FREE_BYTES.set(free)
        self._shortage = ""
        if free < self._min_free_bytes:
            self._shortage = (
                f"the server accepts nothing now: its disk has {free} free bytes, "
                f"and keeps {self._min_free_bytes} for what was accepted before; try again later"
            )

    async def _test(self) -> None:
        await self._blobs.write(_TEST_BLOB, bytes(self._test_bytes))
        await self._blobs.delete(_TEST_BLOB)
        await self._store.test_write()
        if self._fault:
            _log.info("storage_recovered")
            STORAGE_UP.set(1)
        self._fault, self._test_bytes = "", _TEST_BYTES
        self._writable.set()
