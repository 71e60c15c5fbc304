"""Stable Diffusion XL: two text encoders, sizes as conditioning, four latent channels.

Source: "SDXL" (arXiv 2307.01952), section 2, and diffusers' StableDiffusionXLPipeline (0.42.1).
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
from atelier_engines.diffusion.prompts.encoder import Embedding, align, zeros_like
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.errors import ModelMissingError

NAME = "sdxl"
PIPELINE = "StableDiffusionXLPipeline"
"""The family's name in model_index.json."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
LAYER = -2
"""The hidden states of both text encoders that the denoiser was trained on; see TextEncoder.encode."""

_TIME_IDS = 6

_COLOURS = (
    (0.3651, 0.4232, 0.4341),
    (-0.2533, -0.0042, 0.1068),
    (0.1076, 0.1111, -0.0362),
    (-0.3165, -0.2492, -0.2188),
)
_COLOUR_BIAS = (0.1084, -0.0175, -0.0011)
"""Latents to red, green, blue of -1 to 1. Source: ComfyUI, comfy/latent_formats.py, class SDXL."""

PREVIEW_FACTORS = tuple((red / 2, green / 2, blue / 2) for red, green, blue in _COLOURS)
PREVIEW_BIAS = tuple((value + 1) / 2 for value in _COLOUR_BIAS)
"""The same, to red, green, blue of 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdxl(StableDiffusion):
    """A loaded model of the family; see Family."""

    @property
    def name(self) -> str:
        """See Family.name."""
        return NAME

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
        encode = partial(
            self.prompts.encode,
            adapters=adapters,
            inversions=inversions,
            skip=self.count_skipped(clip_skip),
        )
        positive = encode(prompt)
        time_ids = self._time_ids(width, height, positive.hidden.dtype)
        if not is_guided(guidance):
            return _conditioning([positive], time_ids)
        if negative_prompt or not self.architecture.force_zeros_for_empty_prompt:
            negative, positive = align(encode(negative_prompt), positive, partial(encode, ""))
        else:
            negative = zeros_like(positive)
        return _conditioning([negative, positive], time_ids)

    def _time_ids(self, width: int, height: int, dtype: torch.dtype) -> torch.Tensor:
        """(1, 6): original height and width, crop's top and left, final height and width."""
        sizes = [[height, width, 0, 0, height, width]]
        return torch.tensor(sizes, dtype=dtype).to(self.runtime.device)


def _conditioning(rows: Sequence[Embedding], time_ids: torch.Tensor) -> Conditioning:
    """A row for each embedding, all of the same number of tokens and the same sizes."""
    return Conditioning(
        prompt_embeds=torch.cat([row.hidden for row in rows]),
        pooled_prompt_embeds=torch.cat([row.pooled for row in rows if row.pooled is not None]),
        time_ids=time_ids.repeat(len(rows), 1),
    )


def read_architecture(
    *,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    text_encoder_2: Mapping[str, Any],
    force_zeros_for_empty_prompt: bool,
) -> ArchitectureSpec:
    """The architecture of the model whose components have these configurations.

    Raises:
        ModelMissingError: they are not those of a text-to-image model of this family.
    """
    found = family.read_architecture(
        PIPELINE,
        unet=unet,
        vae=vae,
        required={"addition_embed_type": "text_time", "time_cond_proj_dim": None},
        force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
    )
    added = unet["addition_time_embed_dim"] * _TIME_IDS + (text_encoder_2["projection_dim"] or 0)
    if unet["projection_class_embeddings_input_dim"] != added:
        raise ModelMissingError("the denoiser and the second text encoder do not fit together")
    return found
