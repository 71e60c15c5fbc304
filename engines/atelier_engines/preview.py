"""Makes preview images."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from atelier_engines.media import Encoded, Pixels, image_from_pixels

PreviewFormat = Literal["jpeg", "webp"]

_QUALITY = 75
_FAST = 0
"""WebP's method: at the size of previews, slower ones save only a few hundred bytes."""


def preview_from_pixels(
    pixels: Pixels, *, max_side: int = 256, encoding: PreviewFormat = "jpeg"
) -> Encoded:
    """Shrink an image until no side is longer than `max_side` pixels, and encode it."""
    return preview_from_image(image_from_pixels(pixels), max_side=max_side, encoding=encoding)


def preview_from_image(
    image: Image.Image, *, max_side: int = 256, encoding: PreviewFormat = "jpeg"
) -> Encoded:
    """Make a preview of a Pillow image of mode L or RGB, which is not changed. See preview_from_pixels."""
    small = image
    if max(image.size) > max_side:
        small = image.copy()
        small.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    match encoding:
        case "jpeg":
            small.save(file, "JPEG", quality=_QUALITY)
        case "webp":
            small.save(file, "WEBP", quality=_QUALITY, method=_FAST)
    return Encoded(
        media_type=f"image/{encoding}",
        data=file.getvalue(),
        width=small.width,
        height=small.height,
    )
