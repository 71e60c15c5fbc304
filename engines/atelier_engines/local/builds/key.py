"""What a build is made from: builds with equal keys are interchangeable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from atelier_engines.local.weights import digests
from atelier_engines.local.weights.digests import FileIdentity

CLOSED = ConfigDict(frozen=True, extra="forbid", strict=True)
"""For models of files: a key too much, or a value of another type, is an error."""


class BuildKey(BaseModel):
    """Everything that the bytes of a build, or what they compute, depend on."""

    model_config = CLOSED

    network: str
    """The name of the network's specification, such as `denoiser`."""
    weights: tuple[str, ...]
    """SHA-256 of its weight files, in their order."""
    loras: tuple[str, ...]
    """SHA-256 of the LoRAs that are merged into it, in their order."""
    settings: str
    """SHA-256 of its configuration."""
    precision: str
    """The number format that it computes in."""
    shapes: tuple[str, ...]
    """Its inputs and outputs: names, types, and the range of every axis."""
    device: str
    """Name of the device, with its architecture on CUDA (`sm_90`); `cpu` for all CPUs."""
    runtime: str
    """What runs it, such as `onnx`."""
    versions: Mapping[str, str]
    """Versions of what builds it, and of what runs it where the files depend on that."""
    options: Mapping[str, str]
    """Options of the export and of the runtime."""

    @property
    def digest(self) -> str:
        """SHA-256 of the key, in hexadecimal: the name of the build's directory."""
        return digest_values(self.model_dump(mode="json"))


def digest_values(values: object) -> str:
    """SHA-256 of values as JSON, the same for mappings in any order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_weights(files: Sequence[Path]) -> tuple[str, ...]:
    """SHA-256 of each file; a file that is unchanged by its size and time is read once in a process.

    Raises:
        OSError: a file cannot be read.
    """
    return tuple(_digest(digests.identify(path)) for path in files)


@lru_cache(maxsize=4096)
def _digest(file: FileIdentity) -> str:
    return digests.digest_file(file.path)
