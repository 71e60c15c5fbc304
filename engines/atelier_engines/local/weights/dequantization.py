"""Reads the tensors of a safetensors file with torch, as the numbers that they stand for."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from atelier_engines.local.weights.quantization import find_quantization


def read_tensors(path: Path, dtype: torch.dtype, *, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file by name; those that are quantized are multiplied by their scales.

    Args:
        path: the file.
        dtype: the type of weights that were quantized; all others keep the type that they have.
        prefix: how the names of the tensors begin that are wanted.

    Raises:
        ModelMissingError: see find_quantization.
        SafetensorError: the file is damaged.
    """
    found = find_quantization(path, prefix)
    with safe_open(path, framework="pt") as file:

        def read(name: str) -> torch.Tensor:
            tensor: torch.Tensor = file.get_tensor(name)
            if name not in found.scales:
                return tensor
            scale = file.get_tensor(found.scales[name]).float().view(-1, *[1] * (tensor.ndim - 1))
            weight: torch.Tensor = (tensor.float() * scale).to(dtype)
            return weight

        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no dict)
        return {name: read(name) for name in names if name not in found.others}
