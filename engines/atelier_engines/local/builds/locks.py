"""Locks between processes and threads, which end with the process that holds them."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class SharedLock:
    """Held with others until `release`, or until nobody refers to it."""

    def __init__(self, path: Path) -> None:
        """Take the lock; waits while somebody has it alone.

        Raises:
            OSError: the file cannot be made.
        """
        descriptor = _open(path)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._release = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Give it up."""
        self._release()


@contextmanager
def alone(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock alone; waits for whoever has it, and says so once.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = _open(path)
    try:
        if not _try_lock(descriptor):
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone_or_not(path: Path) -> Iterator[bool]:
    """Hold the lock alone if nobody has it, and say whether that is so.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = _open(path)
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
