"""Stable Diffusion XL: two text encoders, sizes as conditioning, four latent channels.

Source: "SDXL" (arXiv 2307.01952), section 2, and diffusers' StableDiffusionXLPipeline (0.42.1).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from atelier_engines.diffusion.denoising import is_guided
from atelier_engines.diffusion.families.layout import Layout, of_networks
from atelier_engines.diffusion.families.tokens import pieces
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.errors import ModelMissingError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_log = logging.getLogger(__name__)

NAME = "sdxl"
PIPELINE = "StableDiffusionXLPipeline"
"""What diffusers calls it in model_index.json."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")

_TIME_IDS = 6

_LAYER = -2
"""Hidden states come from the last layer but one, of both encoders."""

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
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    """In the order of the encoders."""
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
        """See Family.condition.

        A text of more than 77 tokens, start and end included, is cut, and the log says so.
        """
        del adapters
        hidden, pooled = self._encode(prompt)
        time_ids = self._time_ids(width, height, pooled.dtype)
        if is_guided(guidance):
            if negative_prompt or not self.layout.zeros_for_empty:
                other_hidden, other_pooled = self._encode(negative_prompt)
            else:
                other_hidden, other_pooled = torch.zeros_like(hidden), torch.zeros_like(pooled)
            hidden = torch.cat([other_hidden, hidden])
            pooled = torch.cat([other_pooled, pooled])
            time_ids = torch.cat([time_ids, time_ids])
        return Conditioning(hidden=hidden, pooled=pooled, time_ids=time_ids)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """See Family.latent_shape."""
        return self.layout.latent_shape(width, height)

    def encode(self, picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See Family.encode."""
        latents = self.runtime.encode_image(picture, generator).to(self.runtime.dtype)
        return self.layout.scaled(latents)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Family.decode."""
        return self.runtime.decode(self.layout.unscaled(latents))

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, 77, width of both encoders) and (1, projection) of the second encoder."""
        cut = [pieces(tokenizer, text) for tokenizer in self.tokenizers]
        if any(len(ids) > 1 for ids in cut):
            _log.warning("a prompt has more tokens than the model reads; the rest of it was cut")
        states = [
            self.runtime.encode_text(index, ids[:1], layer=_LAYER) for index, ids in enumerate(cut)
        ]
        pooled = states[-1].pooled
        if pooled is None:
            raise TypeError("the second text encoder of SDXL has a projection")
        return torch.cat([state.hidden for state in states], dim=-1), pooled

    def _time_ids(self, width: int, height: int, dtype: torch.dtype) -> torch.Tensor:
        """(1, 6): original height and width, crop's top and left, final height and width."""
        sizes = [[height, width, 0, 0, height, width]]
        return torch.tensor(sizes, dtype=dtype).to(self.runtime.device)


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
