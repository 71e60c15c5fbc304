"""How many rows a run of the denoiser may have: as configured, as measured, or as is sane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atelier_engines.diffusion.tuning.records import SizeRecord

_CUDA_LATENT_PIXELS = 8 * 1024 * 1024 // 64
"""Latent cells in one run: eight pictures of 1024 x 1024, without guidance. A larger run gains
little, since one such picture keeps a large GPU busy; smaller pictures gain up to threefold.
"""
_CUDA_ROWS = 32


class BatchLimit(Protocol):
    """How many rows a run may have."""

    @property
    def always_one(self) -> bool:
        """Whether no two pictures ever share a run, so that the same bits come out every time."""

    def __call__(self, height: int, width: int) -> int:
        """The most rows of that size in latent cells; one picture is run even if it has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedLimit:
    """The same limit for all sizes."""

    rows: int

    @property
    def always_one(self) -> bool:
        """See RowLimit.alone."""
        return self.rows == 1

    def __call__(self, height: int, width: int) -> int:
        """See RowLimit."""
        del height, width
        return self.rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBudget:
    """As many rows as have so many latent cells together."""

    latent_pixels: int

    @property
    def always_one(self) -> bool:
        """See RowLimit.alone."""
        return False

    def __call__(self, height: int, width: int) -> int:
        """See RowLimit."""
        return max(1, min(_CUDA_ROWS, self.latent_pixels // (height * width)))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLimit:
    """What was best for the measured size that is nearest, smaller ones aside."""

    records: Sequence[SizeRecord]
    """At least one."""

    @property
    def always_one(self) -> bool:
        """See RowLimit.alone."""
        return all(record.rows == 1 for record in self.records)

    def __call__(self, height: int, width: int) -> int:
        """See RowLimit. What is larger than all that was measured gets its share of their cells."""
        cells = height * width
        larger = [record for record in self.records if record.cells >= cells]
        if larger:
            return min(larger, key=lambda record: record.cells).rows
        largest = max(self.records, key=lambda record: record.cells)
        return max(1, largest.rows * largest.cells // cells)


def choose_limit(max_batch: int | None, device: str, measured: Sequence[SizeRecord]) -> BatchLimit:
    """What the configuration says, else what was measured, else what is sane on the device.

    Untold, a CPU runs one picture at a time: it keeps the threads busy, and runs that are shared
    differ in their last bits from runs alone.

    Args:
        max_batch: rows, where the configuration has a say.
        device: `cpu` or `cuda`.
        measured: what `atelier tune` has found out.
    """
    if max_batch is not None:
        return FixedLimit(rows=max_batch)
    if measured:
        return MeasuredLimit(records=measured)
    return (
        FixedLimit(rows=1) if device == "cpu" else LatentBudget(latent_pixels=_CUDA_LATENT_PIXELS)
    )
