"""Pixels to and from Pillow's images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from atelier_engines.media import Pixels


def image_from_pixels(pixels: Pixels) -> Image.Image:
    """The same picture: mode L for one channel, RGB for three."""
    array = pixels.array
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def pixels_from_image(image: Image.Image) -> Pixels:
    """The same picture in red, green and blue; transparency is dropped."""
    return Pixels(array=np.array(image if image.mode == "RGB" else image.convert("RGB")))
