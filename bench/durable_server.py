"""The least that a durable service can be: grpc.aio, and for each call one commit and one file, in a thread of its own.

It has no queue, events, receipts, limits, metrics or log. What it costs more than the bare server is what durability
costs; what the service costs more than it is what all the rest costs.

`python -m bench.durable_server BYTES PART...` prints its port and serves until it is stopped. Parts are `commit`,
`file` and `digest`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
import tempfile
from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from atelier_server.artifacts.blobs.recycled_files import RecycledFiles
from atelier_server.malloc import tune_malloc
from bench.grpc_baseline import serve

PARTS = ("commit", "file", "digest")
_ALIVE = 500  # outputs at a time, as in a service that makes 100 a second and keeps them for five


class _Disk:
    """Writes what one call leaves behind; used by one thread."""

    def __init__(self, folder: Path, data: bytes, parts: Collection[str]) -> None:
        self._folder, self._data, self._parts = folder, data, parts
        self._recycled = RecycledFiles(folder / "recycled")
        self._alive: deque[Path] = deque()
        self._count = 0
        self._db = sqlite3.connect(
            folder / "calls.db", isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, record BLOB NOT NULL)")

    def write(self) -> None:
        """The file, its digest, and the row that says so."""
        self._count += 1
        digest = b""
        if "file" in self._parts:
            self._write_file(self._folder / f"output-{self._count}")
        if "digest" in self._parts:
            digest = hashlib.sha256(self._data).digest()
        if "commit" in self._parts:
            record = digest.ljust(1000)  # as long as the record of a generation
            self._db.execute("INSERT INTO calls (record) VALUES (?)", (record,))

    def _write_file(self, path: Path) -> None:
        if not self._recycled.write(path, self._data):
            path.write_bytes(self._data)
        self._alive.append(path)
        if len(self._alive) > _ALIVE:
            self._recycled.take(self._alive.popleft())


async def _serve(output_bytes: int, parts: Collection[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        data = bytes(output_bytes)
        disk = _Disk(Path(folder), data, parts)
        thread = ThreadPoolExecutor(1)
        loop = asyncio.get_running_loop()

        async def make() -> bytes:
            await loop.run_in_executor(thread, disk.write)
            return data

        await serve(make)


if __name__ == "__main__":
    tune_malloc()
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2:]))
