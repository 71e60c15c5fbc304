"""Makes the small pictures that show work in progress."""

from __future__ import annotations

import io
from typing import Literal

from PIL import Image

from atelier_engines.imaging import image_from_pixels
from atelier_engines.media import Encoded, Pixels

PreviewFormat = Literal["jpeg", "webp"]

_QUALITY = 75
_FAST = 0
"""WebP's method: at the size of previews the slower ones save a few hundred bytes."""


def preview_from_pixels(
    pixels: Pixels, *, max_side: int = 256, encoding: PreviewFormat = "jpeg"
) -> Encoded:
    """The picture, shrunk until no side is longer than `max_side` pixels, and encoded."""
    return preview_from_image(image_from_pixels(pixels), max_side=max_side, encoding=encoding)


def preview_from_image(
    image: Image.Image, *, max_side: int = 256, encoding: PreviewFormat = "jpeg"
) -> Encoded:
    """See preview_from_pixels; `image` is of mode L or RGB and stays as it is."""
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
