"""Where the weights of a network lie, and how they come and go while the network stays the same.

Whoever knows a network keeps knowing it: its tensors lose and find their memory, and whatever was
added to its modules meanwhile, adapters for instance, stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from atelier_engines.diffusion.weights import headers

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2}
"""Of one number; of all other types 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """Tells whether a file is still the same without reading it."""

    path: Path
    """Resolved."""
    size: int
    """Bytes."""
    modified_ns: int
    """Time of the last change."""


def identity(path: Path) -> FileIdentity:
    """What tells the file at `path` from others.

    Raises:
        OSError: there is none.
    """
    found = path.resolve()
    status = found.stat()
    return FileIdentity(path=found, size=status.st_size, modified_ns=status.st_mtime_ns)


def estimate(files: Sequence[Path], dtype: torch.dtype, *, prefix: str = "") -> int:
    """Bytes that the tensors in safetensors files will take; only their headers are read.

    Args:
        files: of one network, or of several.
        dtype: what fractions are converted to; whole numbers stay as they are.
        prefix: how the names of the network's tensors begin.

    Raises:
        ModelMissingError: a file is absent or broken.
    """
    tensors = [
        tensor
        for path in files
        for name, tensor in headers.read(path).items()
        if name.startswith(prefix)
    ]
    return sum(
        prod(tensor.shape)
        * (dtype.itemsize if tensor.dtype in _FLOATS else _BYTES.get(tensor.dtype, 1))
        for tensor in tensors
    )


def tensors_of(network: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def size(network: torch.nn.Module) -> int:
    """Bytes that parameters and buffers take."""
    return sum(tensor.nbytes for tensor in tensors_of(network).values())


def move(network: torch.nn.Module, device: torch.device) -> None:
    """Bring everything that the network holds to a device."""
    with torch.inference_mode(mode=False):
        network.to(device)


def drop(tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the memory of these tensors back; they hold nothing until they are filled again."""
    with torch.inference_mode(mode=False):
        for tensor in tensors.values():
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)


def fill(tensors: Mapping[str, torch.Tensor], fresh: torch.nn.Module) -> None:
    """Give dropped tensors what those of the same names in a network just loaded hold."""
    with torch.inference_mode(mode=False):
        found = tensors_of(fresh)
        for name, tensor in tensors.items():
            tensor.data = found[name].data
