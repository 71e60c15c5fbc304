"""Measures how much memory torch's operations take while they run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the bytes of tensors that are created while it is entered, as long as they live.

    Memory that a kernel needs for itself is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._alive: dict[int, int] = {}
        self._current = 0
        self.peak = 0
        """Most bytes at once."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever the operation returns)
        """Run an operation and count the new storages in its result."""
        del types
        result = func(*args, **(kwargs or {}))
        inputs = {storage.data_ptr() for storage in _storages((args, kwargs or {}))}
        for storage in _storages(result):
            if storage.data_ptr() not in inputs | self._alive.keys():
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        self._alive[key] = size
        self._current += size
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._current -= self._alive.pop(key, 0)


def _storages(tree: object) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            yield leaf.untyped_storage()
