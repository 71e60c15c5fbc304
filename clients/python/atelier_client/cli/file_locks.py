"""Locks a file against other processes, until it is closed or the process ends."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none; there files are not locked
    fcntl = None  # type: ignore[assignment]  # a module elsewhere


class FileLockedError(Exception):
    """Another process has locked the file."""


def lock_file(path: Path) -> int:
    """A descriptor of the file, which is created if need be; the lock ends when it is closed.

    File systems without locks, and Windows, do not lock.

    Raises:
        FileLockedError: another process has it.
        OSError: the file cannot be opened for writing.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FileLockedError(path) from error
    except OSError:  # ENOLCK, ENOTSUP: some network file systems
        return descriptor
    return descriptor
