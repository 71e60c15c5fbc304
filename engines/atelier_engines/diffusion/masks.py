"""What a mask means to the pixel: everything that it marks is inpainted, and everything else is kept to the byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from atelier_engines.compositing import MARKED, composite, feather
from atelier_engines.media import Pixels, image_from_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """Lays the inpainted part of an image over its init image."""

    kept: NDArray[np.uint8]
    """(height, width, 3): the init image."""
    share: NDArray[np.float32]
    """(height, width, 1): 1 in marked pixels, 0 more than 8 pixels away from all of them; the feather is between."""

    def apply(self, inpainted: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image, (height, width, 3), where its share is 1, and exactly the init image where it is 0."""
        return composite(self.kept, inpainted, self.share)


def to_covering_mask(pixels: Pixels, *, width: int, height: int) -> torch.Tensor:
    """The mask in that size; (1, 1, height, width), float32: 1 where any marked pixel of it lies, else 0."""
    marked = np.asarray(image_from_pixels(pixels).convert("L")) >= MARKED
    image = Image.fromarray(marked.astype(np.float32))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy((np.asarray(image) > 0).astype(np.float32)[None, None])


def fill_cells(mask: torch.Tensor, side: int) -> torch.Tensor:
    """The mask with every cell of `side` x `side` pixels, one pixel of the latents, full if any part is marked."""
    cells = functional.max_pool2d(mask, side)
    return cells.repeat_interleave(side, dim=-1).repeat_interleave(side, dim=-2)


def make_composite(init_image: Pixels, mask: torch.Tensor, *, width: int, height: int) -> Composite:
    """Of an init image, resized to that size in pixels, and a mask as `to_covering_mask` gives it."""
    image = image_from_pixels(init_image).convert("RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    share = feather(mask[0, 0].numpy() > 0)[:, :, None]
    return Composite(kept=np.asarray(image), share=share)
