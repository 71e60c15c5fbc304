"""Changes a file of keys: one change at a time, and readers see the file before it or after it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from atelier_server.auth.keys import KeyFile, KeyRecord, parse_key_file

_MODE = 0o600


def list_keys(path: Path) -> tuple[KeyRecord, ...]:
    """The keys of the file; none if it does not exist.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file of keys.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    return parse_key_file(content).keys


def add_key(path: Path, record: KeyRecord) -> None:
    """Add a key; the file is made if it does not exist, for its owner alone.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is no file of keys.
    """
    with _lock(path):
        _replace(path, (*list_keys(path), record))


def revoke_key(path: Path, key_id: str) -> bool:
    """Remove a key; whether there was one of that id. Errors as in `add_key`."""
    with _lock(path):
        keys = list_keys(path)
        kept = tuple(record for record in keys if record.id != key_id)
        if len(kept) < len(keys):
            _replace(path, kept)
    return len(kept) < len(keys)


@contextmanager
def _lock(path: Path) -> Generator[None]:
    """Hold the folder of the file: the file itself is replaced."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, keys: tuple[KeyRecord, ...]) -> None:
    target = path.resolve()
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else _MODE
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    text = KeyFile(keys=keys).model_dump_json(indent=2) + "\n"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
