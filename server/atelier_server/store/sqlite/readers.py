"""Threads that read the file beside the one that writes it, so that no read waits for a write."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from atelier_server.errors import StorageError

ResultT = TypeVar("ResultT")
_CONNECTIONS = (
    2  # so that a long list holds up no short read; more would only compete with the event loop
)


class Readers:
    """Runs functions against read-only connections, each in a transaction: it sees one state of the file."""

    def __init__(self, path: Path) -> None:
        """Open the file, which exists and is open for writing as long as this is.

        Raises:
            sqlite3.Error: the file can't be opened.
        """
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        for _ in range(_CONNECTIONS):
            self._idle.put(_open(path))
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="store-read")

    async def run(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run `work(connection)` on all that is committed when it begins; it must not write.

        Raises:
            StorageError: the file cannot be read.
            Exception: whatever `work` raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, work)

    async def close(self) -> None:
        """Run the functions that wait, then close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        for _ in range(_CONNECTIONS):
            self._idle.get_nowait().close()

    def _read(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        connection = self._idle.get_nowait()  # there are as many as threads
        try:
            connection.execute("BEGIN")
            try:
                return work(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            raise StorageError.from_fault(str(error)) from error
        finally:
            self._idle.put(connection)


def _open(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
