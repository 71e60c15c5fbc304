"""A torch module in the model cache: its weights leave the device and come back, the object stays.

Whoever holds a reference to the module or to one of its parameters keeps a valid one, and what was
added to the module meanwhile, adapters for instance, stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch

from atelier_engines.local.load_lock import LOAD_LOCK

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_RAM = torch.device("cpu")
_RELOADS: WeakKeyDictionary[torch.nn.Module, int] = WeakKeyDictionary()


class TorchModule(Generic[ModuleT]):
    """See Resident."""

    def __init__(self, load: Callable[[], ModuleT]) -> None:
        """Load the module.

        Args:
            load: returns it on its device, in evaluation mode and without gradients; called again
                to restore weights that were dropped.

        Raises:
            Exception: whatever `load` raises.
        """
        self._load = load
        with LOAD_LOCK:
            self.module = load()
        self._tensors = _named_tensors(self.module)
        self._nbytes = count_bytes(self.module)
        self._dropped = False

    @property
    def nbytes(self) -> int:
        """See Resident.nbytes."""
        return self._nbytes

    def offload(self, *, keep_in_ram: bool) -> None:
        """See Resident.offload."""
        if keep_in_ram:
            _move(self.module, _RAM)
        else:
            _release(self._tensors)
            self._dropped = True

    def restore(self, device: torch.device) -> None:
        """See Resident.restore."""
        if not self._dropped:
            _move(self.module, device)
            return
        with LOAD_LOCK:
            fresh = self._load()
        _refill(self._tensors, fresh)
        self._dropped = False
        _RELOADS[self.module] = count_reloads(self.module) + 1


@contextmanager
def computing_in(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Have the module's floating-point weights in another number format; afterwards they are the same tensors again."""
    before = {
        tensor: tensor.data
        for tensor in _named_tensors(module).values()
        if tensor.is_floating_point()
    }
    with torch.inference_mode(mode=False):
        try:
            for tensor in before:
                tensor.data = tensor.data.to(dtype)
            with torch.no_grad():
                yield
        finally:
            for tensor, data in before.items():
                tensor.data = data


def count_reloads(module: torch.nn.Module) -> int:
    """How often the weights of a module were dropped and loaded again; changes of them are lost then."""
    return _RELOADS.get(module, 0)


def count_bytes(module: torch.nn.Module) -> int:
    """Bytes that the parameters and buffers of a module take now."""
    return sum(tensor.nbytes for tensor in _named_tensors(module).values())


def _named_tensors(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _move(module: torch.nn.Module, device: torch.device) -> None:
    with torch.inference_mode(mode=False):
        module.to(device)


def _release(tensors: Mapping[str, torch.Tensor]) -> None:
    """Free the memory of these tensors; they are empty until they are refilled."""
    with torch.inference_mode(mode=False):
        for tensor in tensors.values():
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)


def _refill(tensors: Mapping[str, torch.Tensor], fresh: torch.nn.Module) -> None:
    """Give released tensors the data of the tensors of the same names in a module just loaded."""
    with torch.inference_mode(mode=False):
        found = _named_tensors(fresh)
        for name, tensor in tensors.items():
            tensor.data = found[name].data
