"""The file that `atelier tune` writes and engines read: the best batch size for each image size."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_log = logging.getLogger(__name__)

DEFAULT_PATH = "~/.cache/atelier/tuning.json"
"""Path of the file if the configuration names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningKey:
    """What was measured; the result holds for nothing else."""

    model: str
    """SHA-256 over the model's weights."""
    device: str
    """Name of the device; for a CPU with the number of threads."""
    precision: str
    """The number format that the model computes in."""
    torch: str
    """Version of torch."""

    def __str__(self) -> str:
        return " | ".join((self.device, self.precision, f"torch {self.torch}", self.model))


class BatchSizeRecord(BaseModel):
    """The best batch size for one image size, as measured."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=1)
    """Width in pixels."""
    height: int = Field(ge=1)
    """Height in pixels."""
    latent_pixels: int = Field(ge=1)
    """Latent pixels of one row."""
    batch_size: int = Field(ge=1)
    """The best number of rows."""
    milliseconds_per_row: Mapping[int, float]
    """Median time of a run divided by its rows, by the number of rows."""


class _File(BaseModel):
    records: dict[str, tuple[BatchSizeRecord, ...]] = Field(default_factory=dict)


def read(path: Path, key: TuningKey) -> tuple[BatchSizeRecord, ...]:
    """What was measured for the key; empty where the file is absent or broken."""
    return _load(path).records.get(str(key), ())


def write(path: Path, key: TuningKey, measured: tuple[BatchSizeRecord, ...]) -> None:
    """Store what was measured in place of what the file has for the key.

    Raises:
        OSError: the file cannot be written.
    """
    file = _load(path)
    file.records[str(key)] = measured
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
        _log.warning(
            "tuning_file_ignored",
            extra={"path": str(path), "error": str(error), "hint": "run `atelier tune` again"},
        )
        return _File()
