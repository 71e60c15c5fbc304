"""What all Stable Diffusion families have in common: how images become latents and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atelier_engines.diffusion.families.architecture import ArchitectureSpec
from atelier_engines.diffusion.prompts.encoder import PromptEncoder
from atelier_engines.diffusion.runtimes.base import Runtime


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

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """See Family.latent_shape."""
        return self.architecture.latent_shape(width, height)

    def encode(
        self, image: torch.Tensor, generator: torch.Generator, *, tiled: bool = False
    ) -> torch.Tensor:
        """See Family.encode."""
        latents = self.runtime.autoencoder.encode(image, generator, tiled=tiled)
        return self.architecture.scale_latents(latents.to(self.runtime.dtype))

    def decode(self, latents: torch.Tensor, *, tiled: bool = False) -> torch.Tensor:
        """See Family.decode."""
        unscaled = self.architecture.unscale_latents(latents)
        return self.runtime.autoencoder.decode(unscaled, tiled=tiled)
