"""Files that the server reads again when they change: certificates, and who may call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.metrics import FILES_CURRENT

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0

T = TypeVar("T")


class Reloaded(Generic[T]):
    """What some files say. When they change to something unusable, the last usable value stays.

    Safe to read from any thread.
    """

    def __init__(
        self, name: str, paths: Sequence[Path], parse: Callable[[Sequence[bytes]], T]
    ) -> None:
        """Read the files now; `name` is their key in the configuration.

        `parse` raises ValueError with a text that may be logged, or OSError.

        Raises:
            ConfigurationError: they cannot be read, or are wrong.
        """
        self._name, self._paths, self._parse = name, paths, parse
        self._seen = self._identify()
        try:
            self._value = self._read()
        except (OSError, ValueError) as error:
            msg = f"{name}: {_explain(error)}"
            raise ConfigurationError(msg) from error
        FILES_CURRENT.labels(name).set(1)

    @property
    def value(self) -> T:
        """The newest usable value."""
        return self._value

    def refresh(self) -> None:
        """Read the files if they have changed. What is wrong with them is logged once, and shown in a metric."""
        identity = self._identify()
        if identity == self._seen:
            return
        self._seen = identity
        try:
            self._value = self._read()
        except (OSError, ValueError) as error:
            FILES_CURRENT.labels(self._name).set(0)
            _log.error("files_not_reloaded", extra={"key": self._name, "reason": _explain(error)})
        else:
            FILES_CURRENT.labels(self._name).set(1)
            _log.info("files_reloaded", extra={"key": self._name})

    def _read(self) -> T:
        return self._parse([path.read_bytes() for path in self._paths])

    def _identify(self) -> Sequence[object]:
        """Differs after every write and every replacement."""
        return [_identify(path) for path in self._paths]


async def reload_periodically(files: Iterable[Reloaded[object]]) -> None:
    """Refresh them every second until cancelled, beside the event loop: they may lie on a network."""
    files = tuple(files)
    while files:
        await asyncio.sleep(_INTERVAL_SECONDS)
        for one in files:
            await asyncio.to_thread(one.refresh)


def _identify(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _explain(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"cannot read {error.filename}: {error.strerror}"
    return str(error)
