"""The file that `atelier tune` writes and engines read: the best number of rows for each size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_log = logging.getLogger(__name__)

DEFAULT = "~/.cache/atelier/tuning.json"
"""Where the file is if the configuration does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was measured; another one may behave otherwise."""

    model: str
    """SHA-256 over its weights."""
    device: str
    """The device's name, and on a CPU the number of threads."""
    precision: str
    """What the networks compute in."""
    torch: str
    """Version of the package."""

    @property
    def key(self) -> str:
        """Its name in the file."""
        return " | ".join((self.device, self.precision, f"torch {self.torch}", self.model))


class SizeRecord(BaseModel):
    """What was measured for one size."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=1)
    """Pixels."""
    height: int = Field(ge=1)
    """Pixels."""
    cells: int = Field(ge=1)
    """Latent cells of one row."""
    rows: int = Field(ge=1)
    """The number of rows to use."""
    milliseconds_a_row: Mapping[int, float]
    """Median time of a run divided by its rows, by the number of rows."""


class _File(BaseModel):
    records: dict[str, tuple[SizeRecord, ...]] = Field(default_factory=dict)


def read(path: Path, subject: Subject) -> tuple[SizeRecord, ...]:
    """What was measured of the subject; nothing where the file is absent or broken."""
    return _load(path).records.get(subject.key, ())


def write(path: Path, subject: Subject, measured: tuple[SizeRecord, ...]) -> None:
    """Keep what was measured, in place of what was known of the subject.

    Raises:
        OSError: the file cannot be written.
    """
    file = _load(path)
    file.records[subject.key] = measured
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(file.model_dump_json(indent=2) + "\n", "utf-8")
    partial.replace(path)


def _load(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _File()
    except (OSError, ValidationError) as error:
        _log.warning("%s is not used: %s; `atelier tune` writes it anew", path, error)
        return _File()
