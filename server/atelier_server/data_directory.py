"""Creates the data directory, and locks it for one server at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from atelier_server.errors import DataDirectoryInUseError, DataDirectoryUnusableError


@contextmanager
def lock_data_directory(path: Path) -> Generator[None]:
    """Hold the directory exclusively, also against other servers in the same process.

    Raises:
        DataDirectoryInUseError: another server uses it.
        DataDirectoryUnusableError: it cannot be created or written.
    """
    with _open_lock(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another server uses the data directory {path}; give each server its own --data-dir"
            raise DataDirectoryInUseError(msg) from error
        yield


def _open_lock(path: Path) -> TextIOWrapper:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "artifacts").mkdir(exist_ok=True)
        return (path / "lock").open("w")
    except OSError as error:
        msg = (
            f"cannot use the data directory {path} ({error.strerror}: {error.filename}); make it a directory that "
            "this user may write, or give another with --data-dir"
        )
        raise DataDirectoryUnusableError(msg) from error
