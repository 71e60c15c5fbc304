"""Stable Diffusion XL: two text encoders, sizes as conditioning, four latent channels.

Source: "SDXL" (arXiv 2307.01952), section 2, and diffusers' StableDiffusionXLPipeline (0.42.1).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from atelier_engines.diffusion.capabilities import GRID
from atelier_engines.diffusion.denoising import is_guided
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.errors import ModelMissingError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_log = logging.getLogger(__name__)

NAME = "sdxl"
PIPELINE = "StableDiffusionXLPipeline"
"""What diffusers calls it in model_index.json."""
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
LATENT_CHANNELS = 4

_WITH_MASK = 2 * LATENT_CHANNELS + 1
"""Channels of a denoiser that was trained to inpaint: latents, mask, masked picture."""

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
class Layout:
    """What differs between models of the family."""

    cell_pixels: int
    """Pixels along the side of one latent cell."""
    scaling: float
    """The denoiser's latents are the autoencoder's times this."""
    mean: tuple[float, ...] | None = None
    """Of the autoencoder's latents, one a channel; None where they are only scaled."""
    deviation: tuple[float, ...] | None = None
    """As `mean`, the standard deviation."""
    zeros_for_empty: bool = True
    """Whether an empty negative prompt is all zeros and not the encoding of the empty text."""
    sample_pixels: int = 1024
    """Width and height of the pictures that the model was trained on."""
    mask_channels: bool = False
    """Whether the denoiser takes mask and masked picture as five more channels."""


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

    def condition(  # noqa: PLR0913 (all of them steer)
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
        cell = self.layout.cell_pixels
        return (1, LATENT_CHANNELS, height // cell, width // cell)

    def encode(self, picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """See Family.encode."""
        layout = self.layout
        latents = self.runtime.encode_image(picture, generator).to(self.runtime.dtype)
        if layout.mean is None or layout.deviation is None:
            return layout.scaling * latents
        mean = latents.new_tensor(layout.mean).view(1, -1, 1, 1)
        deviation = latents.new_tensor(layout.deviation).view(1, -1, 1, 1)
        return (latents - mean) * layout.scaling / deviation

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See Family.decode."""
        layout = self.layout
        if layout.mean is None or layout.deviation is None:
            return self.runtime.decode(latents / layout.scaling)
        mean = latents.new_tensor(layout.mean).view(1, -1, 1, 1)
        deviation = latents.new_tensor(layout.deviation).view(1, -1, 1, 1)
        return self.runtime.decode(latents * deviation / layout.scaling + mean)

    def _encode(self, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, 77, width of both encoders) and (1, projection) of the second encoder."""
        pieces = [_token_ids(tokenizer, text) for tokenizer in self.tokenizers]
        if any(len(ids) > 1 for ids in pieces):
            _log.warning("a prompt has more tokens than the model reads; the rest of it was cut")
        states = [
            self.runtime.encode_text(index, ids[:1], layer=_LAYER)
            for index, ids in enumerate(pieces)
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
    channels = unet["in_channels"]
    if channels not in (LATENT_CHANNELS, _WITH_MASK):
        raise ModelMissingError(
            f"the denoiser takes {channels} channels; a model of this family has "
            f"{LATENT_CHANNELS}, or {_WITH_MASK} for inpainting"
        )
    expected = {
        "out_channels": LATENT_CHANNELS,
        "addition_embed_type": "text_time",
        "time_cond_proj_dim": None,
    }
    for name, value in expected.items():
        if unet[name] != value:
            raise ModelMissingError(
                f"the denoiser is no {PIPELINE}'s for text to image: its {name} is {unet[name]}, "
                f"not {value}"
            )
    added = unet["addition_time_embed_dim"] * _TIME_IDS + (projection or 0)
    if unet["projection_class_embeddings_input_dim"] != added:
        raise ModelMissingError("the denoiser and the second text encoder do not fit together")
    cell = 2 ** (len(vae["block_out_channels"]) - 1)
    if GRID % cell:
        raise ModelMissingError(f"the autoencoder shrinks by {cell}; at most {GRID} is possible")
    return Layout(
        cell_pixels=cell,
        scaling=vae["scaling_factor"],
        mean=_numbers(vae.get("latents_mean")),
        deviation=_numbers(vae.get("latents_std")),
        zeros_for_empty=zeros_for_empty,
        sample_pixels=unet["sample_size"] * cell,
        mask_channels=channels == _WITH_MASK,
    )


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def _token_ids(tokenizer: CLIPTokenizer, text: str) -> torch.Tensor:
    """(pieces, 77): the text in as many pieces as it takes, each with start, end and padding."""
    ids: torch.Tensor = tokenizer(
        [text],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_overflowing_tokens=True,
        return_tensors="pt",
    ).input_ids
    return ids
