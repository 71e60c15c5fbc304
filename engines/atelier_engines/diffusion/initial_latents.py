"""Makes the latents that denoising starts from: pure noise, or an encoded image with noise added.

The order of the operations, random numbers included, is that of diffusers' pipelines (0.42.1), so
that the results are the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.sampler import InitialLatents, InpaintBlend
from atelier_engines.diffusion.schedulers import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInitializer:
    """Makes the initial latents of one image, for a scheduler that is set to its steps."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """The image's own."""
    generator: torch.Generator
    """The image's own random numbers."""
    steps: int
    """Number of steps that the scheduler is set to."""
    tiled: bool = False
    """Whether images are encoded in tiles."""

    def from_noise(self, width: int, height: int) -> InitialLatents:
        """The initial latents of text-to-image, for an image size in pixels."""
        noise = self._sample_noise(self.family.latent_shape(width, height))
        self._set_begin_index(0)
        return InitialLatents(
            latents=noise * self.scheduler.init_noise_sigma,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_image(self, image: torch.Tensor, strength: float) -> InitialLatents:
        """The initial latents of image-to-image, from `image`, (1, 3, height, width) of -1 to 1.

        A `strength` of 0 skips all steps, one of 1 skips none.
        """
        skipped = self._skip_steps(strength)
        clean = self._encode(image)
        noise = self._sample_noise(clean.shape)
        height, width = image.shape[-2:]
        return InitialLatents(
            latents=self._add_noise(clean, noise, skipped),
            skipped_steps=skipped,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_masked(
        self, image: torch.Tensor, mask: torch.Tensor, strength: float
    ) -> InitialLatents:
        """The initial latents of inpainting.

        Args:
            image: (1, 3, height, width) of -1 to 1.
            mask: (1, 1, height, width) in pixels, 1 where the image is inpainted, 0 elsewhere.
            strength: 0 to 1; at 1 nothing of the masked part of `image` is left.
        """
        skipped = self._skip_steps(strength)
        channels = self.family.mask_channels
        clean = None
        if not channels or strength < 1:
            clean = self._encode(image).contiguous()
        noise = self._sample_noise(self.family.latent_shape(image.shape[-1], image.shape[-2]))
        if clean is None or strength == 1:
            latents = noise * self.scheduler.init_noise_sigma
        else:
            latents = self._add_noise(clean, noise, skipped)
        latent_mask = torch.nn.functional.interpolate(mask, size=noise.shape[-2:])
        latent_mask = latent_mask.to(device=noise.device, dtype=noise.dtype)
        if channels:
            masked = self._encode(image * (mask < 0.5))  # noqa: PLR2004
            return InitialLatents(
                latents=latents,
                skipped_steps=skipped,
                mask_channels=torch.cat([latent_mask, masked], dim=1),
            )
        self._sample_noise(
            noise.shape
        )  # diffusers samples the latents of the masked image here, and drops them
        if clean is None:
            raise TypeError("a model without mask channels encodes the image")
        return InitialLatents(
            latents=latents,
            skipped_steps=skipped,
            blend=InpaintBlend(latents=clean, noise=noise, mask=latent_mask),
        )

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        return self.family.encode(image, self.generator, tiled=self.tiled)

    def _full_mask_channels(self, width: int, height: int) -> torch.Tensor | None:
        """The mask channels of an inpainting model where the whole image is generated."""
        if not self.family.mask_channels:
            return None
        grey = torch.zeros((1, 3, height, width))
        encoded = self.family.encode(grey, torch.Generator("cpu").manual_seed(0), tiled=self.tiled)
        return torch.cat([torch.ones_like(encoded[:, :1]), encoded], dim=1)

    def _skip_steps(self, strength: float) -> int:
        """The number of steps to skip; the scheduler is set to begin after them."""
        skipped = self.steps - min(int(self.steps * strength), self.steps)
        self._set_begin_index(skipped * self.scheduler.order)
        return skipped

    def _set_begin_index(self, index: int) -> None:
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(index)

    def _add_noise(self, clean: torch.Tensor, noise: torch.Tensor, skipped: int) -> torch.Tensor:
        first = self.scheduler.timesteps[skipped * self.scheduler.order :][:1]
        if not len(first):  # all steps are skipped
            return clean
        noisy: torch.Tensor = self.scheduler.add_noise(clean, noise, first)
        return noisy

    def _sample_noise(self, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
        runtime = self.family.runtime
        noise = torch.randn(shape, generator=self.generator, dtype=runtime.dtype)
        return noise.to(runtime.device)
