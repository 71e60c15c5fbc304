"""Measures how much memory torch's operations take while they run."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves


class PeakMemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the bytes of tensors that are created while it is entered, as long as they live.

    Tensors without numbers (of the device "meta") count as if they had some. Memory that a kernel needs for itself is
    not counted.
    """

    _entered = threading.local()

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._alive: dict[int, int] = {}
        self._current = 0
        self.peak = 0
        """Most bytes at once."""

    @classmethod
    def is_entered(cls) -> bool:
        """Whether this thread is counting now: what runs no operations of torch may then show what it takes."""
        return getattr(cls._entered, "depth", 0) > 0

    @staticmethod
    def pause() -> AbstractContextManager[None]:
        """While this is entered, nothing is counted."""
        return _disable_current_modes()

    def __enter__(self) -> Self:
        """Count from now on."""
        self._entered.depth = getattr(self._entered, "depth", 0) + 1
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's
        return self

    def __exit__(self, *error: object) -> None:
        """Count no longer."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's
        self._entered.depth -= 1

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
        inputs = {_identify(storage) for storage in _storages((args, kwargs or {}))}
        for storage in _storages(result):
            if _identify(storage) not in inputs | self._alive.keys():
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = _identify(storage), storage.nbytes()
        self._alive[key] = size
        self._current += size
        self.peak = max(self.peak, self._current)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self._current -= self._alive.pop(key, 0)


def _identify(storage: torch.UntypedStorage) -> int:
    """Tells a storage from all others that live; those without numbers have no address."""
    return storage.data_ptr() or int(storage._cdata)  # noqa: SLF001 (torch compares storages by it)


def _storages(tree: object) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            yield leaf.untyped_storage()
