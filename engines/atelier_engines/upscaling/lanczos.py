"""Enlarges with Lanczos' filter: exact, quick, without weights, and without any new detail."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from PIL import Image

from atelier_engines.imaging import image_from_pixels
from atelier_engines.media import Pixels
from atelier_engines.task import Upscale
from atelier_engines.upscaling.upscaler import TileDone


class LanczosUpscaler:
    """See Upscaler. A picture is one part; grey ones stay grey."""

    def tile_count(self, width: int, height: int) -> int:  # noqa: ARG002
        """See Upscaler.tiles."""
        return 1

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """See Upscaler.enlarge."""
        enlarged = resize(pixels, Upscale(factor=factor).size_of(pixels.width, pixels.height))
        yield TileDone(index=1, total=1)
        return enlarged


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The picture in another size (width, height), by Lanczos' filter; itself where that is its size."""
    if size == (pixels.width, pixels.height):
        return pixels
    image = image_from_pixels(pixels).resize(size, Image.Resampling.LANCZOS)
    return Pixels(array=np.array(image).reshape(size[1], size[0], -1))
