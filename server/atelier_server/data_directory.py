"""Creates the data directory, and locks it for one server at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from atelier_server.errors import DataDirectoryInUseError


@contextmanager
def lock_data_directory(path: Path) -> Generator[None]:
    """Hold the directory exclusively, also against other servers in the same process.

    Raises:
        DataDirectoryInUseError: another server uses it.
        OSError: it cannot be created or written.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another server uses the data directory {path}; give each server its own --data-dir"
            raise DataDirectoryInUseError(msg) from error
        yield
