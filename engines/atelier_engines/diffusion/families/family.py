"""What every model family is to the pipeline, and what the Stable Diffusion families have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from atelier_engines.capabilities import IntegerRange
from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.diffusion.model_info import GRID
from atelier_engines.diffusion.prompts.encoder import PromptEncoder
from atelier_engines.diffusion.runtimes.base import (
    Conditioning,
    OnOverflow,
    Runtime,
    ignore_overflow,
)
from atelier_engines.errors import ModelMissingError

LATENT_CHANNELS = 4

_INPAINTING_CHANNELS = 2 * LATENT_CHANNELS + 1
"""Input channels of a denoiser that was trained to inpaint: latents, mask, masked image."""


_LAST_LAYER = IntegerRange(min=1, max=1, default=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureSpec:
    """Shapes and scales of one model."""

    vae_scale_factor: int
    """Pixels along the side of one latent pixel."""
    scaling_factor: float
    """The denoiser's latents are the autoencoder's times this."""
    mean: tuple[float, ...] | None = None
    """Mean of the autoencoder's latents, one per channel; None where they are only scaled."""
    std: tuple[float, ...] | None = None
    """Standard deviation of the autoencoder's latents, one per channel; None as `mean`."""
    force_zeros_for_empty_prompt: bool = False
    """Whether an empty negative prompt is all zeros and not the encoding of the empty text."""
    sample_pixels: int = 512
    """Width and height of the images that the model was trained on."""
    mask_channels: bool = False
    """Whether the denoiser takes mask and masked image as five more channels."""
    clip_skip: IntegerRange = _LAST_LAYER
    """Layers of the text encoders that can be used, counted from the end."""

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, channels, height, width) in latent pixels, of an image of a size in pixels."""
        factor = self.vae_scale_factor
        return (1, LATENT_CHANNELS, height // factor, width // factor)

    def scale_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """The autoencoder's latents, (rows, channels, …), in the denoiser's scale."""
        if self.mean is None or self.std is None:
            return self.scaling_factor * latents
        mean, std = _broadcast(self.mean, latents), _broadcast(self.std, latents)
        return (latents - mean) * self.scaling_factor / std

    def unscale_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """The denoiser's latents, (rows, channels, …), in the autoencoder's scale."""
        if self.mean is None or self.std is None:
            return latents / self.scaling_factor
        mean, std = _broadcast(self.mean, latents), _broadcast(self.std, latents)
        return latents * std / self.scaling_factor + mean


class Family(Protocol):
    """A loaded model of some family, whatever runs its components. Called on one thread at a time."""

    @property
    def name(self) -> str:
        """The family: sdxl, sd15 and so on."""

    @property
    def runtime(self) -> Runtime:
        """The model's components."""

    @property
    def architecture(self) -> ArchitectureSpec:
        """Shapes and scales of the model."""

    @property
    def mask_channels(self) -> bool:
        """Whether the denoiser takes mask and masked image as five more channels."""

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
        """What to condition the denoiser on: one row, or with guidance the negative one before it.

        Args:
            prompt: what the image is to show.
            negative_prompt: what it is not to show.
            guidance: classifier-free guidance scale.
            width: of the image, in pixels.
            height: of the image, in pixels.
            adapters: identifies the LoRAs that are active in the text encoders.
            inversions: the textual inversions whose names in the prompts stand for their vectors.
            clip_skip: layer of the text encoders, counted from the end; None for the family's.
        """

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, channels, height, width) in latent pixels, of an image of a size in pixels."""

    def encode(
        self,
        image: torch.Tensor,
        generator: torch.Generator,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """The latents, in the denoiser's scale, of an image: (1, 3, height, width) of -1 to 1.

        For `tiled` and `on_overflow`, see Autoencoder.encode.
        """

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """The image, (1, 3, height, width), about -1 to 1, of latents in the denoiser's scale.

        For `tiled` and `on_overflow`, see Autoencoder.encode.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StableDiffusion:
    """A loaded model of one of the families."""

    runtime: Runtime
    """The model's components."""
    prompts: PromptEncoder
    """Encodes texts with the runtime's text encoders, at the family's layer."""
    architecture: ArchitectureSpec
    """Shapes and scales of the model."""

    @property
    def mask_channels(self) -> bool:
        """See Family.mask_channels."""
        return self.architecture.mask_channels

    def count_skipped(self, clip_skip: int | None) -> int:
        """How many layers before the family's usual one a layer is; None is the usual one."""
        return 0 if clip_skip is None else clip_skip - self.architecture.clip_skip.default

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """See Family.latent_shape."""
        return self.architecture.latent_shape(width, height)

    def encode(
        self,
        image: torch.Tensor,
        generator: torch.Generator,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Family.encode."""
        latents = self.runtime.autoencoder.encode(
            image, generator, tiled=tiled, on_overflow=on_overflow
        )
        return self.architecture.scale_latents(latents.to(self.runtime.dtype))

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Family.decode."""
        unscaled = self.architecture.unscale_latents(latents)
        return self.runtime.autoencoder.decode(unscaled, tiled=tiled, on_overflow=on_overflow)


def is_guided(guidance: float) -> bool:
    """Whether classifier-free guidance is on: at a scale of 1 and below it has no effect."""
    return guidance > 1


def read_architecture(
    pipeline: str,
    *,
    unet: Mapping[str, Any],
    vae: Mapping[str, Any],
    required: Mapping[str, object],
    force_zeros_for_empty_prompt: bool,
) -> ArchitectureSpec:
    """The architecture of the model whose components have these configurations.

    Args:
        pipeline: what diffusers calls models of the family, for messages.
        unet: the denoiser's configuration.
        vae: the autoencoder's configuration.
        required: values that the family needs in the denoiser's configuration.
        force_zeros_for_empty_prompt: see ArchitectureSpec.

    Raises:
        ModelMissingError: they are not those of a model of the family.
    """
    channels = unet["in_channels"]
    if channels not in (LATENT_CHANNELS, _INPAINTING_CHANNELS):
        raise ModelMissingError(
            f"the denoiser takes {channels} channels; a model of this family has "
            f"{LATENT_CHANNELS}, or {_INPAINTING_CHANNELS} for inpainting"
        )
    for name, value in {"out_channels": LATENT_CHANNELS, **required}.items():
        if unet[name] != value:
            raise ModelMissingError(
                f"the denoiser is not that of a {pipeline} for text-to-image: its {name} is "
                f"{unet[name]}, not {value}"
            )
    factor = 2 ** (len(vae["block_out_channels"]) - 1)
    if GRID % factor:
        raise ModelMissingError(
            f"the autoencoder shrinks images by {factor}; at most {GRID} is supported"
        )
    return ArchitectureSpec(
        vae_scale_factor=factor,
        scaling_factor=vae["scaling_factor"],
        mean=_to_tuple(vae.get("latents_mean")),
        std=_to_tuple(vae.get("latents_std")),
        force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
        sample_pixels=unet["sample_size"] * factor,
        mask_channels=channels == _INPAINTING_CHANNELS,
    )


def _broadcast(values: Sequence[float], latents: torch.Tensor) -> torch.Tensor:
    return latents.new_tensor(values).view(1, -1, 1, 1)


def _to_tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)
