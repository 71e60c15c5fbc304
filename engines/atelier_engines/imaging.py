"""Converts pixels to Pillow images and back."""

from __future__ import annotations

import numpy as np
from PIL import Image

from atelier_engines.media import Pixels


def image_from_pixels(pixels: Pixels) -> Image.Image:
    """Convert to a Pillow image: mode L for one channel, RGB for three."""
    array = pixels.array
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def pixels_from_image(image: Image.Image) -> Pixels:
    """Convert from a Pillow image to RGB; transparency is dropped."""
    return Pixels(array=np.array(image if image.mode == "RGB" else image.convert("RGB")))
