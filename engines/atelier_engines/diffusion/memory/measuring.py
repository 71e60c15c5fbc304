"""Finds out what a model's work takes, by doing a little of it."""

from __future__ import annotations

import torch

from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.memory.footprint import Footprint, Meter

_SIDES = (64, 128)
"""Pixels of the two pictures that are measured."""


def footprint(family: Family) -> Footprint:
    """What one row's run of the denoiser and one picture's decoding take, from two small sizes.

    Raises:
        Exception: whatever torch raises where the parts of the model do not fit together.
    """
    # What is compiled cannot be looked into while it runs.
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        small, large = (_measured(family, side) for side in _SIDES)
    found = Footprint(device=family.runtime.device)
    found.fit("denoise", (small[0], small[1]), (large[0], large[1]))
    found.fit("decode", (small[0], small[2]), (large[0], large[2]))
    return found


def _measured(family: Family, side: int) -> tuple[int, int, int]:
    """Latent cells of a square picture, and bytes of the denoiser's run and of the decoding."""
    runtime = family.runtime
    shape = family.latent_shape(side, side)
    latents = torch.zeros(shape, dtype=runtime.dtype, device=runtime.device)
    mask = [torch.zeros_like(latents[:, :1]), latents] if family.mask_channels else []
    conditioning = family.condition("", "", guidance=1.0, width=side, height=side)
    timesteps = torch.zeros(1, device=runtime.device)
    with Meter() as denoising:
        runtime.denoise(torch.cat([latents, *mask], dim=1), timesteps, conditioning)
    with Meter() as decoding:
        family.decode(latents)
    return shape[-1] * shape[-2], denoising.peak, decoding.peak
