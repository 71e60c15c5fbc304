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
from typing import TYPE_CHECKING, Any

import numpy as np

from atelier_engines.errors import ModelMissingError

if TYPE_CHECKING:
    import torch

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit that the format sets."""

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Types of floating-point numbers that torch converts to each other."""

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
    start: int
    """The first byte of its numbers, counted from the start of the file."""
    end: int
    """The byte after its last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHeader:
    """What a file says of itself."""

    tensors: Mapping[str, TensorHeader]
    """By name."""
    metadata: Mapping[str, str]
    """Texts by key; empty where the file has none."""


def read(path: Path) -> Mapping[str, TensorHeader]:
    """The tensors of a file by name; raises as `read_header`."""
    return read_header(path).tensors


def read_bytes(path: Path, tensor: TensorHeader) -> bytes:
    """The numbers of one tensor as they are in the file, little-endian.

    Raises:
        ModelMissingError: the file is absent.
    """
    try:
        with path.open("rb") as file:
            file.seek(tensor.start)
            return file.read(tensor.end - tensor.start)
    except OSError as error:
        raise ModelMissingError(f"{path} cannot be read: {error.strerror}") from error


def read_numbers(path: Path, tensor: TensorHeader) -> tuple[float, ...]:
    """All numbers of a small tensor; empty where its type is not float64, float32, float16 or bfloat16.

    Raises:
        ModelMissingError: the file is absent.
    """
    data = read_bytes(path, tensor)
    match tensor.dtype:
        case "BF16":  # the upper half of a float32
            wide = np.frombuffer(data, "<u2").astype("<u4") << 16
            return tuple(wide.view("<f4").tolist())
        case "F64" | "F32" | "F16":
            return tuple(np.frombuffer(data, f"<f{int(tensor.dtype[1:]) // 8}").tolist())
        case _:
            return ()


def read_header(path: Path) -> FileHeader:
    """The tensors and the metadata of a file.

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
        metadata = {str(key): str(value) for key, value in entries.pop("__metadata__", {}).items()}
        tensors = {
            str(name): _read_entry(entry, _LENGTH_BYTES + length) for name, entry in entries.items()
        }
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelMissingError(f"{path} is not a safetensors file, or is truncated") from error
    expected = _LENGTH_BYTES + length + end
    if size != expected:
        raise ModelMissingError(
            f"{path} has {size} bytes; its header announces {expected}: the file is incomplete"
        )
    return FileHeader(tensors=tensors, metadata=metadata)


def _read_entry(entry: Mapping[str, Any], offset: int) -> TensorHeader:
    start, end = entry["data_offsets"]
    return TensorHeader(
        dtype=str(entry["dtype"]),
        shape=tuple(map(int, entry["shape"])),
        start=offset + int(start),
        end=offset + int(end),
    )


def estimate_bytes(files: Sequence[Path], dtype: torch.dtype, *, prefix: str = "") -> int:
    """Bytes of memory that the tensors in these files will take once they are loaded.

    Args:
        files: of one component, or of several.
        dtype: what floating-point numbers and quantized weights are converted to; other integers
            keep their type.
        prefix: how the names of the component's tensors begin.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    return sum(
        prod(tensor.shape)
        * (
            dtype.itemsize
            if tensor.dtype in FLOATS or name.endswith(".weight")
            else _ITEM_BYTES.get(tensor.dtype, 1)
        )
        for path in files
        for name, tensor in read(path).items()
        if name.startswith(prefix)
    )
