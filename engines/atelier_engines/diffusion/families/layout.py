"""What differs between models of one family, and how it reads from their configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from atelier_engines.diffusion.capabilities import GRID
from atelier_engines.errors import ModelMissingError

LATENT_CHANNELS = 4

_WITH_MASK = 2 * LATENT_CHANNELS + 1
"""Channels of a denoiser that was trained to inpaint: latents, mask, masked picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Numbers of one model, and the latents that follow from them."""

    cell_pixels: int
    """Pixels along the side of one latent cell."""
    scaling: float
    """The denoiser's latents are the autoencoder's times this."""
    mean: tuple[float, ...] | None = None
    """Of the autoencoder's latents, one a channel; None where they are only scaled."""
    deviation: tuple[float, ...] | None = None
    """As `mean`, the standard deviation."""
    zeros_for_empty: bool = False
    """Whether an empty negative prompt is all zeros and not the encoding of the empty text."""
    sample_pixels: int = 512
    """Width and height of the pictures that the model was trained on."""
    mask_channels: bool = False
    """Whether the denoiser takes mask and masked picture as five more channels."""

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, channels, height, width) in latent cells, of a picture in pixels."""
        return (1, LATENT_CHANNELS, height // self.cell_pixels, width // self.cell_pixels)

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents, (rows, channels, …), as the denoiser sees them."""
        if self.mean is None or self.deviation is None:
            return self.scaling * latents
        mean, deviation = _broadcast(self.mean, latents), _broadcast(self.deviation, latents)
        return (latents - mean) * self.scaling / deviation

    def unscaled(self, latents: torch.Tensor) -> torch.Tensor:
        """The denoiser's latents, (rows, channels, …), as the autoencoder made them."""
        if self.mean is None or self.deviation is None:
            return latents / self.scaling
        mean, deviation = _broadcast(self.mean, latents), _broadcast(self.deviation, latents)
        return latents * deviation / self.scaling + mean


def of_networks(
    pipeline: str,
    *,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    expected: Mapping[str, object],
    zeros_for_empty: bool,
) -> Layout:
    """The layout of the model whose networks have these configurations.

    Args:
        pipeline: what diffusers calls models of the family, for messages.
        unet: the denoiser's configuration.
        vae: the autoencoder's configuration.
        expected: what the family needs to be in the denoiser's.
        zeros_for_empty: see Layout.

    Raises:
        ModelMissingError: they are not those of a model of the family.
    """
    channels = unet["in_channels"]
    if channels not in (LATENT_CHANNELS, _WITH_MASK):
        raise ModelMissingError(
            f"the denoiser takes {channels} channels; a model of this family has "
            f"{LATENT_CHANNELS}, or {_WITH_MASK} for inpainting"
        )
    for name, value in {"out_channels": LATENT_CHANNELS, **expected}.items():
        if unet[name] != value:
            raise ModelMissingError(
                f"the denoiser is no {pipeline}'s for text to image: its {name} is {unet[name]}, "
                f"not {value}"
            )
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


def _broadcast(values: Sequence[float], latents: torch.Tensor) -> torch.Tensor:
    return latents.new_tensor(values).view(1, -1, 1, 1)


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
