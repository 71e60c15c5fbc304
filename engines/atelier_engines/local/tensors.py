"""Moves the weights of a torch module to a device, releases them and puts them back.

The module stays the same object, and so do its parameters: whoever holds a reference to it keeps a
valid one, and what was added to it meanwhile, adapters for instance, stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def named_tensors(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def count_bytes(module: torch.nn.Module) -> int:
    """Bytes that parameters and buffers take."""
    return sum(tensor.nbytes for tensor in named_tensors(module).values())


def move(module: torch.nn.Module, device: torch.device) -> None:
    """Move everything that the module holds to a device."""
    with torch.inference_mode(mode=False):
        module.to(device)


def release(tensors: Mapping[str, torch.Tensor]) -> None:
    """Free the memory of these tensors; they are empty until they are refilled."""
    with torch.inference_mode(mode=False):
        for tensor in tensors.values():
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)


def refill(tensors: Mapping[str, torch.Tensor], fresh: torch.nn.Module) -> None:
    """Give released tensors the data of the tensors of the same names in a module just loaded."""
    with torch.inference_mode(mode=False):
        found = named_tensors(fresh)
        for name, tensor in tensors.items():
            tensor.data = found[name].data
