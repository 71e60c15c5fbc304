"""The hosts whose instances have failed, for longer than the process lives."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

_log = logging.getLogger(__name__)
_FILE = "excluded-hosts.json"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True)

    hosts: dict[int, float]
    """Unix times of the failures, by id of the host."""


class Exclusions:
    """Hosts that are not rented from again for some time."""

    def __init__(self, directory: Path | None, *, seconds: float) -> None:
        """Read what an earlier process has left in the directory; None remembers nothing over a restart."""
        self._path = None if directory is None else directory / _FILE
        self._seconds = seconds
        self._hosts = self._read()

    def add(self, machine_id: int) -> None:
        """Exclude a host from now on. A file that cannot be written is logged: it still holds in this process."""
        self._hosts[machine_id] = time.time()
        if self._path is None:
            return
        partial = self._path.with_name(f".{_FILE}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(_Stored(hosts=self._hosts).model_dump_json())
            partial.replace(self._path)
        except OSError as error:
            details = {"file": str(self._path), "error": str(error)}
            _log.warning("vastai_exclusions_not_written", extra=details)

    def __contains__(self, machine_id: int) -> bool:
        """Whether the host is excluded now."""
        since = self._hosts.get(machine_id)
        return since is not None and time.time() - since < self._seconds

    def _read(self) -> dict[int, float]:
        if self._path is None:
            return {}
        try:
            stored = _Stored.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            details = {"file": str(self._path), "error": str(error)}
            _log.warning("vastai_exclusions_not_read", extra=details)
            return {}
        now = time.time()
        return {host: since for host, since in stored.hosts.items() if now - since < self._seconds}
