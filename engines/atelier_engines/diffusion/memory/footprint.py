"""How much memory work takes beside the weights, by the number of latent pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch

Stage = Literal["denoise", "decode"]


@dataclass(slots=True)
class _LinearFit:
    """Bytes as a linear function of latent pixels."""

    base: float
    slope: float


@dataclass(slots=True)
class Footprint:
    """Bytes that work takes on one device, as far as it was measured.

    Convolutions and attention without its matrix (torch's fused kernels) take memory in proportion
    to the pixels, so two sizes are enough to estimate all others.
    """

    device: torch.device
    """The device that the work is done on."""
    _fits: dict[Stage, _LinearFit] = field(default_factory=dict)

    def fit(self, stage: Stage, small: tuple[int, int], large: tuple[int, int]) -> None:
        """Fit a stage to two measurements of latent pixels and bytes."""
        slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
        self._fits[stage] = _LinearFit(base=max(0.0, small[1] - slope * small[0]), slope=slope)

    def estimate_bytes(self, stage: Stage, pixels: int) -> int:
        """Bytes for so many latent pixels; 0 before anything was measured."""
        fit = self._fits.get(stage)
        return 0 if fit is None else round(fit.base + fit.slope * pixels)

    def max_pixels(self, stage: Stage, available: int) -> int | None:
        """Most latent pixels for so many bytes; None before anything was measured."""
        fit = self._fits.get(stage)
        if fit is None or fit.slope <= 0:
            return None
        return max(0, int((available - fit.base) / fit.slope))

    @contextmanager
    def watch(self, stage: Stage, pixels: int) -> Iterator[None]:
        """Correct the estimate by the work done inside; only CUDA tells what it really takes."""
        if self.device.type != "cuda":
            yield
            return
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        yield
        taken = torch.cuda.max_memory_allocated(self.device) - before
        fit = self._fits.get(stage)
        if fit is not None:
            fit.slope = max(fit.slope, (taken - fit.base) / pixels)
