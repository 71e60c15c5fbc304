"""Stable Diffusion 1.5 and 2.1: one text encoder, four latent channels, nothing else that steers.

Source: "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752), and
diffusers' StableDiffusionPipeline (0.42.1).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atelier_engines.diffusion.families.layout import Layout, of_networks
from atelier_engines.diffusion.prompts.embedding import align
from atelier_engines.diffusion.prompts.encoder import PromptEncoder
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.diffusion.sampler import is_guided
from atelier_engines.errors import ModelMissingError

PIPELINE = "StableDiffusionPipeline"
"""What diffusers calls it in model_index.json."""
TEXT_ENCODERS = ("text_encoder",)
LAYER = None
"""Hidden states come from the norm after the last layer."""

_COLOURS = (
    (0.3512, 0.2297, 0.3227),
    (0.3250, 0.4974, 0.2350),
    (-0.2829, 0.1762, 0.2721),
    (-0.2120, -0.2616, -0.7177),
)
"""Latents to red, green, blue of -1 to 1. Source: ComfyUI, comfy/latent_formats.py, class SD15."""

PREVIEW_FACTORS = tuple((red / 2, green / 2, blue / 2) for red, green, blue in _COLOURS)
PREVIEW_BIAS = (0.5, 0.5, 0.5)
"""The same, to red, green, blue of 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sd:
    """A model of the family, whatever runs its networks."""

    name: str
    """sd15 or sd21."""
    runtime: Runtime
    """Runs them."""
    prompts: PromptEncoder
    """Encodes texts with the runtime's text encoder, at LAYER."""
    layout: Layout
    """What differs from other models of the family."""

    @property
    def mask_channels(self) -> bool:
        """See Family.mask_channels."""
        return self.layout.mask_channels

    def condition(
        self,
        prompt: str,
        negative_prompt: str,
        *,
        guidance: float,
        width: int,
        height: int,
        adapters: Hashable = None,
    ) -> Conditioning:
        """See Family.condition."""
        del width, height
        encode = partial(self.prompts.encode, adapters=adapters)
        positive = encode(prompt)
        if not is_guided(guidance):
            return Conditioning(hidden=positive.hidden)
        negative, positive = align(encode(negative_prompt), positive, partial(encode, ""))
        return Conditioning(hidden=torch.cat([negative.hidden, positive.hidden]))

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """See Family.latent_shape."""
        return self.layout.latent_shape(width, height)

    def encode(
        self, picture: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """See Family.encode."""
        latents = self.runtime.encode_image(picture, generator, tiled=tiled)
        return self.layout.scaled(latents.to(self.runtime.dtype))

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """See Family.decode."""
        return self.runtime.decode(self.layout.unscaled(latents), tiled=tiled)


def layout(*, unet: Mapping[str, Any], vae: Mapping[str, Any], text_width: int) -> Layout:
    """The layout of the model whose networks have these configurations.

    Raises:
        ModelMissingError: they are not those of a text-to-image model of this family.
    """
    expected = {"addition_embed_type": None, "class_embed_type": None, "time_cond_proj_dim": None}
    found = of_networks(PIPELINE, unet=unet, vae=vae, expected=expected, zeros_for_empty=False)
    if unet["cross_attention_dim"] != text_width:
        raise ModelMissingError("the denoiser and the text encoder do not fit together")
    return found
