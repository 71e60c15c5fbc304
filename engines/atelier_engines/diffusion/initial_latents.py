"""Where denoising begins: in pure noise, or in a picture with noise over it.

The order of the operations, random numbers included, is that of diffusers' pipelines (0.42.1), so
that the results are the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.schedulers import Scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintBlend:
    """What is put back after each run, so that only the masked part is painted anew."""

    latents: torch.Tensor
    """(1, channels, height, width): the picture, without noise."""
    noise: torch.Tensor
    """As `latents`: the noise over it."""
    mask: torch.Tensor
    """(1, 1, height, width), 1 where it is painted anew, 0 where it is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialLatents:
    """Latents to denoise, and what else the picture to start from asks for."""

    latents: torch.Tensor
    """(1, channels, height, width) in latent cells, noise and all."""
    skipped_steps: int = 0
    """Steps of the scheduler that are left out, because there is a picture already."""
    blend: InpaintBlend | None = None
    """None where all of the picture is painted, or where the denoiser sees to the mask itself."""
    mask_channels: torch.Tensor | None = None
    """(1, 5, height, width): mask and masked picture, for denoisers that take them as channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentInitializer:
    """Begins one picture of a model, for a scheduler that is set to its steps."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """The picture's own."""
    generator: torch.Generator
    """The picture's own random numbers."""
    steps: int
    """What the scheduler is set to."""
    tiled: bool = False
    """Whether pictures are encoded in tiles."""

    def from_noise(self, width: int, height: int) -> InitialLatents:
        """The start of a picture made from words alone, of a size in pixels."""
        noise = self._sample_noise(self.family.latent_shape(width, height))
        self._set_begin_index(0)
        return InitialLatents(
            latents=noise * self.scheduler.init_noise_sigma,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_image(self, picture: torch.Tensor, strength: float) -> InitialLatents:
        """The start of a variation of `picture`, (1, 3, height, width) of -1 to 1.

        A `strength` of 0 leaves no step to do, one of 1 does all of them.
        """
        skipped = self._skip_steps(strength)
        clean = self._encode(picture)
        noise = self._sample_noise(clean.shape)
        height, width = picture.shape[-2:]
        return InitialLatents(
            latents=self._add_noise(clean, noise, skipped),
            skipped_steps=skipped,
            mask_channels=self._full_mask_channels(width, height),
        )

    def from_masked(
        self, picture: torch.Tensor, mask: torch.Tensor, strength: float
    ) -> InitialLatents:
        """The start of painting a part of `picture` anew.

        Args:
            picture: (1, 3, height, width) of -1 to 1.
            mask: (1, 1, height, width) in pixels, 1 where it is painted anew, 0 elsewhere.
            strength: 0 to 1; at 1 nothing of the masked part is left.
        """
        skipped = self._skip_steps(strength)
        channels = self.family.mask_channels
        clean = None
        if not channels or strength < 1:
            clean = self._encode(picture).contiguous()
        noise = self._sample_noise(self.family.latent_shape(picture.shape[-1], picture.shape[-2]))
        if clean is None or strength == 1:
            latents = noise * self.scheduler.init_noise_sigma
        else:
            latents = self._add_noise(clean, noise, skipped)
        cells = torch.nn.functional.interpolate(mask, size=noise.shape[-2:])
        cells = cells.to(device=noise.device, dtype=noise.dtype)
        if channels:
            hidden = self._encode(picture * (mask < 0.5))  # noqa: PLR2004
            return InitialLatents(
                latents=latents,
                skipped_steps=skipped,
                mask_channels=torch.cat([cells, hidden], dim=1),
            )
        self._sample_noise(noise.shape)  # diffusers encodes the masked picture here, and drops it
        if clean is None:
            raise TypeError("without channels for the mask, the picture is encoded")
        return InitialLatents(
            latents=latents,
            skipped_steps=skipped,
            blend=InpaintBlend(latents=clean, noise=noise, mask=cells),
        )

    def _encode(self, picture: torch.Tensor) -> torch.Tensor:
        return self.family.encode(picture, self.generator, tiled=self.tiled)

    def _full_mask_channels(self, width: int, height: int) -> torch.Tensor | None:
        """The channels of a denoiser that was made to inpaint, where there is nothing to keep."""
        if not self.family.mask_channels:
            return None
        grey = torch.zeros((1, 3, height, width))
        hidden = self.family.encode(grey, torch.Generator("cpu").manual_seed(0), tiled=self.tiled)
        return torch.cat([torch.ones_like(hidden[:, :1]), hidden], dim=1)

    def _skip_steps(self, strength: float) -> int:
        """Steps to leave out; the scheduler is told."""
        skipped = self.steps - min(int(self.steps * strength), self.steps)
        self._set_begin_index(skipped * self.scheduler.order)
        return skipped

    def _set_begin_index(self, index: int) -> None:
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(index)

    def _add_noise(self, clean: torch.Tensor, noise: torch.Tensor, skipped: int) -> torch.Tensor:
        first = self.scheduler.timesteps[skipped * self.scheduler.order :][:1]
        if not len(first):  # nothing is left to do
            return clean
        noisy: torch.Tensor = self.scheduler.add_noise(clean, noise, first)
        return noisy

    def _sample_noise(self, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
        runtime = self.family.runtime
        drawn = torch.randn(shape, generator=self.generator, dtype=runtime.dtype)
        return drawn.to(runtime.device)
