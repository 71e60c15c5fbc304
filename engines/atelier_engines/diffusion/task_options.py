"""Options of one task of a diffusion engine."""

from __future__ import annotations

from pydantic import Field

from atelier_engines.config import Section
from atelier_engines.diffusion.config import MaskMode, TimestepSpacing


class DiffusionOptions(Section):
    """Options of one task; those that are not set are as configured."""

    timestep_spacing: TimestepSpacing | None = Field(
        default=None, description="How the timesteps are spaced."
    )
    mask_mode: MaskMode | None = Field(
        default=None,
        description="What a mask means: composite keeps the rest of the init image to the byte, latent is as in "
        "diffusers.",
    )
