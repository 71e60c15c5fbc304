"""A thread that copies the write-ahead log into the database: the one that writes does not wait for the disk."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

_JOBS_BETWEEN = 100  # of about ten pages each


class Checkpoints:
    """Checkpoints the log beside the writes: nearly all of it on a connection of its own, the rest on the writer's.

    What is written meanwhile would keep the log from ever beginning anew. So the writer copies that itself, which is
    little. It is to be the only one that calls `count` and `close`.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        """Checkpoint from now on, in place of the connection that writes the file.

        Raises:
            sqlite3.Error: the file can't be opened.
        """
        self._writer = writer
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        (synchronous,) = writer.execute("PRAGMA synchronous").fetchone()
        self._connection.execute(f"PRAGMA synchronous = {synchronous}")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        self._jobs = 0
        self._running = False
        self._wanted, self._done = threading.Event(), threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="store-checkpoint", daemon=True)
        self._thread.start()

    def count(self, jobs: int) -> None:
        """Count jobs that were committed; checkpoint when it is time for that."""
        self._jobs += jobs
        if self._running and self._done.is_set():
            self._running = False
            _checkpoint(self._writer)
        elif not self._running and self._jobs >= _JOBS_BETWEEN:
            self._jobs = 0
            self._running = True
            self._done.clear()
            self._wanted.set()

    def close(self) -> None:
        """End the thread, and close its connection."""
        self._closed = True
        self._wanted.set()
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            _checkpoint(self._connection)
            self._done.set()


def _checkpoint(connection: sqlite3.Connection) -> None:
    """Copy as much of the log as is possible without waiting for anybody."""
    with suppress(sqlite3.Error):  # the disk is full, for instance: the log keeps it
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
