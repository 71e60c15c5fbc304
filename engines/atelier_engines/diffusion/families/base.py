"""What every model family is to the pipeline that generates images with it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import torch

from atelier_engines.diffusion.families.architecture import ArchitectureSpec
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime


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
    ) -> Conditioning:
        """What to condition the denoiser on: one row, or with guidance the negative one before it.

        Args:
            prompt: what the image is to show.
            negative_prompt: what it is not to show.
            guidance: classifier-free guidance scale.
            width: of the image, in pixels.
            height: of the image, in pixels.
            adapters: identifies the LoRAs that are active in the text encoders.
        """

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, channels, height, width) in latent pixels, of an image of a size in pixels."""

    def encode(
        self, image: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """The latents, in the denoiser's scale, of an image: (1, 3, height, width) of -1 to 1.

        For `tiled`, see Autoencoder.encode.
        """

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """The image, (1, 3, height, width), about -1 to 1, of latents in the denoiser's scale.

        For `tiled`, see Autoencoder.encode.
        """


def is_guided(guidance: float) -> bool:
    """Whether classifier-free guidance is on: at a scale of 1 and below it has no effect."""
    return guidance > 1
