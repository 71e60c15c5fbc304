"""Estimates how much memory an image takes, and the largest image that fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch

from atelier_engines.diffusion.model_info import GRID, MIN_SIDE
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices

_MAX_SHARE_AFTER_FAILURE = 0.75
"""Largest share of the pixels that did not fit: a higher estimate has been proven wrong."""

_CPU_SAFETY_FACTOR = 3
"""On a CPU, images are suggested that fit this many times: for convolutions oneDNN copies inputs and
outputs into blocks of 8 or 16 channels, which the estimate does not include."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWork:
    """What the memory for one image depends on."""

    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    rows: int
    """Rows in the denoiser's batch: two with guidance, else one."""
    tiled: bool = False
    """Whether it is decoded in tiles, whose memory does not depend on the image's size."""

    def __str__(self) -> str:
        return f"an image of {self.width} x {self.height} pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimator:
    """Estimates for one model on one device."""

    footprint: Footprint
    """Memory of the model's work by the number of latent pixels."""
    vae_scale_factor: int
    """Pixels along the side of a latent pixel."""
    max_side: int
    """Most pixels along a side, however much memory there is."""
    max_pixels: int
    """Most pixels, however much memory there is."""

    def require_memory(self, work: ImageWork) -> None:
        """Return if an image may fit; on CUDA it always may, since running out does no harm there.

        On a CPU it does: the system promises more memory than it has, and kills the process later.

        Raises:
            OutOfMemoryError: it takes more than is available; the message says how much.
        """
        device = self.footprint.device
        if device.type != "cpu":
            return
        needed, available = self.estimate_bytes(work), devices.available(device)
        if needed > available:
            raise OutOfMemoryError(
                f"{work} does not fit into the memory of {device}: it needs about {needed} "
                f"bytes, and {available} are available; {self.suggest_size(work)}"
            )

    def estimate_bytes(self, work: ImageWork) -> int:
        """Bytes that the image takes, about; 0 before anything was measured."""
        pixels = math.ceil(work.width * work.height / self.vae_scale_factor**2)
        decoding = 0 if work.tiled else self.footprint.estimate_bytes("decode", pixels)
        return max(self.footprint.estimate_bytes("denoise", pixels * work.rows), decoding)

    def suggest_size(self, work: ImageWork, *, failed: bool = False) -> str:
        """A hint for the caller of an image that does not fit.

        Args:
            work: what does not fit.
            failed: whether it was tried, which proves the estimate wrong.
        """
        found = self.find_largest(work, failed=failed)
        if found is None:
            return "no image fits into the memory that is left"
        return f"the largest image that fits is {found[0]} x {found[1]}"

    def find_largest(self, work: ImageWork, *, failed: bool = False) -> tuple[int, int] | None:
        """Width and height of the largest image of the same proportions that fits, in pixels.

        None if not even the smallest does. Before anything was measured it is smaller than `work`.
        """
        device = self.footprint.device
        available = devices.available(device)
        available //= _CPU_SAFETY_FACTOR if device.type == "cpu" else 1
        denoising = self.footprint.max_pixels("denoise", available)
        decoding = None if work.tiled else self.footprint.max_pixels("decode", available)
        pixels = float(self.max_pixels)
        if denoising is not None:
            pixels = min(pixels, denoising // work.rows * self.vae_scale_factor**2)
        if decoding is not None:
            pixels = min(pixels, decoding * self.vae_scale_factor**2)
        if failed or denoising is None:
            pixels = min(pixels, _MAX_SHARE_AFTER_FAILURE * work.width * work.height)
        return self._shrink(work, pixels)

    def _shrink(self, work: ImageWork, pixels: float) -> tuple[int, int] | None:
        """At most so many pixels, in the same proportions unless a side would become too short."""
        factor = min(
            math.sqrt(pixels / (work.width * work.height)),
            self.max_side / max(work.width, work.height),
        )
        width, height = (
            max(MIN_SIDE, int(side * factor) // GRID * GRID) for side in (work.width, work.height)
        )
        longest = int(pixels / min(width, height)) // GRID * GRID
        if longest < MIN_SIDE:
            return None
        return (min(width, longest), height) if width > height else (width, min(height, longest))
