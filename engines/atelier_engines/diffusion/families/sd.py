"""Stable Diffusion 1.5 and 2.1: one text encoder, four latent channels, no other conditioning.

Source: "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv 2112.10752), and
diffusers' StableDiffusionPipeline (0.42.1).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.diffusion.families import family
from atelier_engines.diffusion.families.family import ArchitectureSpec, StableDiffusion, is_guided
from atelier_engines.diffusion.prompts.encoder import align
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.errors import ModelMissingError

PIPELINE = "StableDiffusionPipeline"
"""The family's name in model_index.json."""
TEXT_ENCODERS = ("text_encoder",)
LAYER = None
"""The hidden states of the text encoder that the denoiser was trained on; see TextEncoder.encode."""

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
class Sd(StableDiffusion):
    """A loaded model of the family; see Family."""

    name: str
    """The family: sd15 or sd21."""

    def condition(
        self,
        prompt: str,
        negative_prompt: str,
        *,
        guidance: float,
        width: int,
        height: int,
        adapters: Hashable = None,
        inversions: Sequence[TextualInversion] = (),
        clip_skip: int | None = None,
    ) -> Conditioning:
        """See Family.condition."""
        del width, height
        encode = partial(
            self.prompts.encode,
            adapters=adapters,
            inversions=inversions,
            skip=self.count_skipped(clip_skip),
        )
        positive = encode(prompt)
        if not is_guided(guidance):
            return Conditioning(prompt_embeds=positive.hidden)
        negative, positive = align(encode(negative_prompt), positive, partial(encode, ""))
        return Conditioning(prompt_embeds=torch.cat([negative.hidden, positive.hidden]))


def read_architecture(
    *, unet: Mapping[str, Any], vae: Mapping[str, Any], text_encoder: Mapping[str, Any]
) -> ArchitectureSpec:
    """The architecture of the model whose components have these configurations.

    Raises:
        ModelMissingError: they are not those of a text-to-image model of this family.
    """
    required = {"addition_embed_type": None, "class_embed_type": None, "time_cond_proj_dim": None}
    found = family.read_architecture(
        PIPELINE, unet=unet, vae=vae, required=required, force_zeros_for_empty_prompt=False
    )
    if unet["cross_attention_dim"] != text_encoder["hidden_size"]:
        raise ModelMissingError("the denoiser and the text encoder do not fit together")
    return found
