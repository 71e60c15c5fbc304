"""Files of deleted blobs, kept to be overwritten.

A new file needs new pages of the page cache and new blocks of the disk, and a deleted one gives both back; a file that
is overwritten does neither. docs/decisions/ has the measurements.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_MAX_BYTES = 256 * 2**20  # what a busy server deletes in a second, between two sweeps
_MAX_FILE_BYTES = 16 * 2**20


def open_unrecycled(path: Path) -> BinaryIO:
    """Open the file for reading; until it is closed, no process recycles it.

    Raises:
        OSError: it cannot be opened; FileNotFoundError if it does not exist, or is deleted at this moment.
    """
    file = path.open("rb")
    try:
        with suppress(OSError):  # a file system without locks: there nothing is recycled either
            fcntl.flock(file, fcntl.LOCK_SH)
        _require_same(file, path)
    except BaseException:
        file.close()
        raise
    return file


class RecycledFiles:
    """At most 256 MiB of files, in a directory of their own; the newest is used first, as its pages are in memory.

    Safe to use from several threads.
    """

    def __init__(self, directory: Path) -> None:
        """Start with none: what an earlier process kept is deleted."""
        self._directory = directory
        self._lock = threading.Lock()
        self._files: list[tuple[Path, int]] = []
        self._bytes = 0
        for file in directory.iterdir() if directory.exists() else ():
            file.unlink(missing_ok=True)

    def take(self, path: Path) -> bool:
        """Delete the file, or keep it; False if there is none. While anybody reads it, it is deleted."""
        with suppress(FileNotFoundError), path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            if self._reserve(size):
                kept = self._directory / path.name
                try:
                    self._directory.mkdir(exist_ok=True, mode=0o700)
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.replace(kept)
                except OSError:
                    self._release(size)
                else:
                    self._files.append((kept, size))
                    return True
            path.unlink(missing_ok=True)
            return True
        return False

    def write(self, path: Path, data: bytes, *, flush: bool = False) -> bool:
        """Write the bytes into a recycled file, and call it `path` then; False if there is none.

        With `flush` the bytes are on the disk before it is called so.

        Raises:
            OSError: they cannot be written; nothing is left of them.
        """
        try:
            recycled, size = self._files.pop()
        except IndexError:
            return False
        self._release(size)
        try:
            descriptor = os.open(recycled, os.O_WRONLY)  # a file object costs three calls more
            try:
                _write_all(descriptor, data)
                if len(data) < size:
                    os.ftruncate(descriptor, len(data))
                if flush:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            recycled.replace(path)
        except FileNotFoundError:  # another process has deleted it
            return False
        except BaseException:
            recycled.unlink(missing_ok=True)
            raise
        return True

    def _reserve(self, size: int) -> bool:
        """Count the bytes, if there is room for them."""
        with self._lock:
            if not 0 < size <= min(_MAX_FILE_BYTES, _MAX_BYTES - self._bytes):
                return False
            self._bytes += size
            return True

    def _release(self, size: int) -> None:
        with self._lock:
            self._bytes -= size


def _require_same(file: BinaryIO, path: Path) -> None:
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise FileNotFoundError(path)


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes from the file's start on."""
    written = 0
    view = memoryview(data)
    while written < len(data):
        written += os.write(descriptor, view[written:])
