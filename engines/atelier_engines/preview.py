"""Makes the small pictures that show work in progress."""

from __future__ import annotations

import io

from PIL import Image

from atelier_engines.imaging import image_from_pixels
from atelier_engines.media import Encoded, Pixels

_QUALITY = 75


def preview_from_pixels(pixels: Pixels, *, max_side: int = 256) -> Encoded:
    """A JPEG of the picture, shrunk until no side is longer than `max_side` pixels."""
    return preview_from_image(image_from_pixels(pixels), max_side=max_side)


def preview_from_image(image: Image.Image, *, max_side: int = 256) -> Encoded:
    """See preview_from_pixels; `image` is of mode L or RGB and stays as it is."""
    small = image
    if max(image.size) > max_side:
        small = image.copy()
        small.thumbnail((max_side, max_side), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return Encoded(
        media_type="image/jpeg", data=file.getvalue(), width=small.width, height=small.height
    )
