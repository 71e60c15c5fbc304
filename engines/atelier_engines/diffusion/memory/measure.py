"""Measures the memory that a model's work takes, by doing a little of it."""

from __future__ import annotations

import torch

from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.memory.estimator import Footprint
from atelier_engines.diffusion.runtimes.compiled_blocks import eagerly
from atelier_engines.local.peak_memory import PeakMemoryTracker

_SIDES = (64, 128)
"""Pixels along the sides of the two images that are measured."""


def measure_footprint(family: Family) -> Footprint:
    """The memory of one row of the denoiser and of decoding one image, from two small sizes.

    Raises:
        Exception: whatever torch raises where the model's components do not fit together.
    """
    # Compiled code hides its operations from the tracker.
    with torch.inference_mode(), eagerly():
        small, large = (_measure_size(family, side) for side in _SIDES)
    found = Footprint(device=family.runtime.device)
    found.fit("denoise", (small[0], small[1]), (large[0], large[1]))
    found.fit("decode", (small[0], small[2]), (large[0], large[2]))
    return found


def _measure_size(family: Family, side: int) -> tuple[int, int, int]:
    """Latent pixels of a square image, and the bytes of denoising and of decoding it."""
    runtime = family.runtime
    shape = family.latent_shape(side, side)
    latents = torch.zeros(shape, dtype=runtime.dtype, device=runtime.device)
    mask = [torch.zeros_like(latents[:, :1]), latents] if family.mask_channels else []
    conditioning = family.condition("", "", guidance=1.0, width=side, height=side)
    timesteps = torch.zeros(1, device=runtime.device)
    with PeakMemoryTracker() as denoising:
        runtime.denoiser.predict(torch.cat([latents, *mask], dim=1), timesteps, conditioning)
    with PeakMemoryTracker() as decoding:
        family.decode(latents)
    return shape[-1] * shape[-2], denoising.peak, decoding.peak
