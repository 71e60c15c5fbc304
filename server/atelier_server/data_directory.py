"""Creates the data directory, and locks it for one server at a time."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from atelier_server.errors import DataDirectoryInUseError, DataDirectoryUnusableError

_OURS = ("artifacts", "atelier.db", "credentials", "engines", "lock")
"""How the names of everything begin that a server puts into the directory."""


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


def _open_private(path: str, flags: int) -> int:
    """A descriptor of a file that its owner alone may read if this makes it."""
    return os.open(path, flags, 0o600)


def _close_to_others(path: Path) -> None:
    """Let this user alone look into the directories; those of an older version were open to all.

    One that has other things in it, such as a home or /tmp, stays as it is: all of ours in it is private anyway.
    """
    is_ours = all(entry.name.startswith(_OURS) for entry in path.iterdir())
    for folder in (path, path / "artifacts") if is_ours else (path / "artifacts",):
        found = folder.stat()
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)


def _open_lock(path: Path) -> TextIOWrapper:
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "artifacts").mkdir(exist_ok=True)
        _close_to_others(path)
        return open(path / "lock", "w", opener=_open_private)
    except OSError as error:
        msg = (
            f"cannot use the data directory {path} ({error.strerror}: {error.filename}); make it a directory that "
            "this user may write, or give another with --data-dir"
        )
        raise DataDirectoryUnusableError(msg) from error
