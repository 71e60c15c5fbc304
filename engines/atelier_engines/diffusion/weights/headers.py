"""What a safetensors file says it holds, without reading the weights.

Source: github.com/huggingface/safetensors, README, "Format": eight bytes of length, little-endian,
a JSON object of so many bytes, then the tensors' bytes without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.errors import ModelMissingError

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""As the format has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a file."""

    dtype: str
    """As the file says it: F32, F16, BF16 and so on."""
    shape: tuple[int, ...]
    """Empty for a single number."""


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file by name.

    Raises:
        ModelMissingError: the file is absent, cut off, or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            text = file.read(length) if length <= _MAX_HEADER_BYTES else b""
        size = path.stat().st_size
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        tensors = {
            str(name): Tensor(dtype=str(entry["dtype"]), shape=tuple(map(int, entry["shape"])))
            for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelMissingError(f"{path} is no safetensors file, or was cut off early") from error
    expected = _LENGTH_BYTES + length + end
    if size != expected:
        raise ModelMissingError(f"{path} has {size} bytes and not the {expected} that it says")
    return tensors
