"""Stable Diffusion XL: two text encoders, sizes as conditioning, four latent channels.

Source: "SDXL" (arXiv 2307.01952), section 2, and diffusers' StableDiffusionXLPipeline (0.42.1).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from atelier_engines.diffusion.families.layout import Layout, of_networks
from atelier_engines.diffusion.prompts.embedding import Embedding, align, zeros_like
from atelier_engines.diffusion.prompts.encoder import PromptEncoder
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.diffusion.sampler import is_guided
from atelier_engines.errors import ModelMissingError

NAME = "sdxl"
PIPELINE = "StableDiffusionXLPipeline"
"""What diffusers calls it in model_index.json."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
LAYER = -2
"""Hidden states come from the last layer but one, of both encoders."""

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
class Sdxl:
    """A model of the family, whatever runs its networks."""

    runtime: Runtime
    """Runs them."""
    prompts: PromptEncoder
    """Encodes texts with the runtime's text encoders, at LAYER."""
    layout: Layout
    """What differs from other models of the family."""

    @property
    def name(self) -> str:
        """See Family.name."""
        return NAME

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
        encode = partial(self.prompts.encode, adapters=adapters)
        positive = encode(prompt)
        time_ids = self._time_ids(width, height, positive.hidden.dtype)
        if not is_guided(guidance):
            return _conditioning([positive], time_ids)
        if negative_prompt or not self.layout.zeros_for_empty:
            negative, positive = align(encode(negative_prompt), positive, partial(encode, ""))
        else:
            negative = zeros_like(positive)
        return _conditioning([negative, positive], time_ids)

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

    def _time_ids(self, width: int, height: int, dtype: torch.dtype) -> torch.Tensor:
        """(1, 6): original height and width, crop's top and left, final height and width."""
        sizes = [[height, width, 0, 0, height, width]]
        return torch.tensor(sizes, dtype=dtype).to(self.runtime.device)


def _conditioning(rows: Sequence[Embedding], time_ids: torch.Tensor) -> Conditioning:
    """A row for each embedding, all of the same number of tokens and the same sizes."""
    return Conditioning(
        hidden=torch.cat([row.hidden for row in rows]),
        pooled=torch.cat([row.pooled for row in rows if row.pooled is not None]),
        time_ids=time_ids.repeat(len(rows), 1),
    )


def layout(
    *,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    projection: int | None,
    zeros_for_empty: bool,
) -> Layout:
    """The layout of the model whose networks have these configurations.

    Raises:
        ModelMissingError: they are not those of a text-to-image model of this family.
    """
    expected = {"addition_embed_type": "text_time", "time_cond_proj_dim": None}
    found = of_networks(
        PIPELINE, unet=unet, vae=vae, expected=expected, zeros_for_empty=zeros_for_empty
    )
    added = unet["addition_time_embed_dim"] * _TIME_IDS + (projection or 0)
    if unet["projection_class_embeddings_input_dim"] != added:
        raise ModelMissingError("the denoiser and the second text encoder do not fit together")
    return found
