"""What every model family is to the loop that paints with it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

import torch

from atelier_engines.diffusion.families.layout import Layout
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime


class Family(Protocol):
    """A loaded model of some family, whatever runs its networks. Called on one thread at a time."""

    @property
    def name(self) -> str:
        """The family: sdxl, sd15 and so on."""

    @property
    def runtime(self) -> Runtime:
        """Runs the networks."""

    @property
    def layout(self) -> Layout:
        """Numbers of the model."""

    @property
    def mask_channels(self) -> bool:
        """Whether the denoiser takes mask and masked picture as five more channels."""

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
        """What steers the denoiser: one row, or with guidance above 1 the negative one before it.

        Args:
            prompt: what the picture shows.
            negative_prompt: what it should not show.
            guidance: classifier-free guidance scale.
            width: of the picture, in pixels.
            height: of the picture, in pixels.
            adapters: names the LoRAs that are active in the text encoders.
        """

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, channels, height, width) in latent cells, of a picture in pixels."""

    def encode(
        self, picture: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """Latents as the denoiser sees them of a picture, (1, 3, height, width) of -1 to 1.

        For `tiled`, see Runtime.encode_image.
        """

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """A picture, (1, 3, height, width), about -1 to 1, of latents as the denoiser sees them.

        For `tiled`, see Runtime.encode_image.
        """
