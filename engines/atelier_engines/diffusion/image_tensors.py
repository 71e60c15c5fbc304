"""Converts the images of a task to tensors.

The arithmetic is that of diffusers' VaeImageProcessor (0.42.1), so that the results are bit-identical.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.media import Pixels, image_from_pixels


def to_tensor(pixels: Pixels, *, width: int, height: int) -> torch.Tensor:
    """Resize an image to that size in pixels; (1, 3, height, width), 0 to 1, float32."""
    image = image_from_pixels(pixels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    array = np.array(image.convert("RGB")).astype(np.float32) / 255.0
    # Not made contiguous: another memory layout changes the last bits of convolutions.
    return torch.from_numpy(array[None].transpose(0, 3, 1, 2))


def to_mask(pixels: Pixels, *, width: int, height: int) -> torch.Tensor:
    """Resize and threshold a mask; (1, 1, height, width), float32: 1 where it is brighter than half, else 0."""
    image = image_from_pixels(pixels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    array = np.array(image.convert("L")).astype(np.float32) / 255.0
    return torch.from_numpy((array >= 0.5).astype(np.float32)[None, None])  # noqa: PLR2004 (half of the range 0 to 1)


def to_pixels(image: torch.Tensor) -> NDArray[np.uint8]:
    """Convert a decoded image, (1, 3, height, width) of about -1 to 1, to (height, width, 3)."""
    scaled = (image[0] * 0.5 + 0.5).clamp(0, 1).float()
    bytes_ = (scaled * 255).round().to(torch.uint8)
    array: NDArray[np.uint8] = bytes_.permute(1, 2, 0).contiguous().cpu().numpy()
    return array
