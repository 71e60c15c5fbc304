"""Upscales with the Lanczos filter: exact, fast, without weights, and without any new detail."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from PIL import Image

from atelier_engines.media import Pixels, image_from_pixels
from atelier_engines.task import Upscale
from atelier_engines.upscaling.upscaler import TileDone


class LanczosUpscaler:
    """Upscales with the Lanczos filter, as one tile; greyscale images stay greyscale. See Upscaler."""

    def tile_count(self, width: int, height: int) -> int:  # noqa: ARG002 (of the interface)
        """See Upscaler.tile_count."""
        return 1

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """See Upscaler.upscale."""
        upscaled = resize(pixels, Upscale(factor=factor).size_of(pixels.width, pixels.height))
        yield TileDone(index=1, total=1)
        return upscaled


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize an image to `size` (width, height) with the Lanczos filter; return it as it is at that size."""
    if size == (pixels.width, pixels.height):
        return pixels
    image = image_from_pixels(pixels).resize(size, Image.Resampling.LANCZOS)
    return Pixels(array=np.array(image).reshape(size[1], size[0], -1))
