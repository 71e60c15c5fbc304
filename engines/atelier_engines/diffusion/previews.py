"""Small pictures of work in progress, straight from the latents, without the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import preview_from_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewer:
    """Turns each latent cell into one pixel by a linear map of its channels."""

    factors: Sequence[Sequence[float]]
    """(channels, 3): from latents as the denoiser sees them to red, green, blue of 0 to 1."""
    bias: Sequence[float]
    """(3,): the colour of latents that are zero."""
    max_side: int
    """Longest side in pixels; larger previews are shrunk, smaller ones stay as they are."""

    def preview(self, latents: torch.Tensor) -> Encoded:
        """A small JPEG of latents, (1, channels, height, width)."""
        cells = latents[0].float().permute(1, 2, 0).cpu()
        colours = cells @ torch.tensor(self.factors) + torch.tensor(self.bias)
        pixels = colours.nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
        return preview_from_pixels(Pixels(array=pixels), max_side=self.max_side)
