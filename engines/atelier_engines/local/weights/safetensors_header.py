"""Reads what a safetensors file holds, without reading the weights.

Source: github.com/huggingface/safetensors, README, "Format": eight bytes of length, little-endian,
a JSON object of so many bytes, then the tensors' bytes without a gap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_engines.errors import ModelMissingError

if TYPE_CHECKING:
    import torch

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit that the format sets."""

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
}
"""Bytes of one number by its type; types that are not listed have 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorHeader:
    """Type and shape of one tensor in a file."""

    dtype: str
    """The type as the file names it: F32, F16, BF16 and so on."""
    shape: tuple[int, ...]
    """Empty for a single number."""


def read(path: Path) -> Mapping[str, TensorHeader]:
    """The tensors of a file by name.

    Raises:
        ModelMissingError: the file is absent, truncated, or not a safetensors file.
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
            str(name): TensorHeader(
                dtype=str(entry["dtype"]), shape=tuple(map(int, entry["shape"]))
            )
            for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelMissingError(f"{path} is not a safetensors file, or is truncated") from error
    expected = _LENGTH_BYTES + length + end
    if size != expected:
        raise ModelMissingError(
            f"{path} has {size} bytes; its header announces {expected}: the file is incomplete"
        )
    return tensors


def estimate_bytes(files: Sequence[Path], dtype: torch.dtype, *, prefix: str = "") -> int:
    """Bytes of memory that the tensors in these files will take once they are loaded.

    Args:
        files: of one component, or of several.
        dtype: what floating-point numbers are converted to; integers keep their type.
        prefix: how the names of the component's tensors begin.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    tensors = [
        tensor for path in files for name, tensor in read(path).items() if name.startswith(prefix)
    ]
    return sum(
        prod(tensor.shape)
        * (dtype.itemsize if tensor.dtype in _FLOATS else _ITEM_BYTES.get(tensor.dtype, 1))
        for tensor in tensors
    )
