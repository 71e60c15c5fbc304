"""How much memory work takes beside the weights, by the number of latent cells in it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Stage = Literal["denoise", "decode"]


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Counts the bytes of tensors that are made while it is entered, as long as they live.

    What a kernel needs for itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self._alive: dict[int, int] = {}
        self._now = 0
        self.peak = 0
        """Most bytes at once."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 (whatever the operation returns)
        """Run an operation and count what is new in its result."""
        del types
        made = func(*args, **(kwargs or {}))
        given = {storage.data_ptr() for storage in _storages((args, kwargs or {}))}
        for storage in _storages(made):
            if storage.data_ptr() not in given | self._alive.keys():
                self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        self._alive[key] = size
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._alive.pop(key, 0)


def _storages(tree: object) -> Iterator[torch.UntypedStorage]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor):
            yield leaf.untyped_storage()


@dataclass(slots=True)
class _Line:
    """Bytes as a line over latent cells."""

    base: float
    slope: float


@dataclass(slots=True)
class Footprint:
    """Bytes that work takes on one device, as far as has been seen.

    Convolutions and attention without its matrix (torch's fused kernels) take memory in proportion
    to the cells, so two sizes tell about all.
    """

    device: torch.device
    """Where the work is done."""
    _lines: dict[Stage, _Line] = field(default_factory=dict)

    def fit(self, stage: Stage, small: tuple[int, int], large: tuple[int, int]) -> None:
        """Draw the line of a stage through two pairs of cells and bytes."""
        slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
        self._lines[stage] = _Line(base=max(0.0, small[1] - slope * small[0]), slope=slope)

    def bytes(self, stage: Stage, cells: int) -> int:
        """What so many cells take; 0 while nothing is known."""
        line = self._lines.get(stage)
        return 0 if line is None else round(line.base + line.slope * cells)

    def cells(self, stage: Stage, room: int) -> int | None:
        """Most cells that so many bytes have room for; None while nothing is known."""
        line = self._lines.get(stage)
        if line is None or line.slope <= 0:
            return None
        return max(0, int((room - line.base) / line.slope))

    @contextmanager
    def watch(self, stage: Stage, cells: int) -> Iterator[None]:
        """Learn from work on so many cells; only CUDA tells what it really takes."""
        if self.device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        yield
        taken = torch.cuda.max_memory_allocated(self.device) - before
        line = self._lines.get(stage)
        if line is not None:
            line.slope = max(line.slope, (taken - line.base) / cells)
