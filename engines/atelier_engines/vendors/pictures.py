"""Pictures on their way to and from remote services: files to send, and results that are what they say."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from atelier_engines.errors import EngineFailedError
from atelier_engines.imaging import image_from_pixels, pixels_from_image
from atelier_engines.media import Encoded, Pixels

_MOST_PIXELS = 64 * 2**20
_HALF = 128
_FORMATS = ("PNG", "JPEG", "WEBP")


def png_from_pixels(pixels: Pixels) -> bytes:
    """A PNG file of the picture; blocks."""
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def filled(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture scaled to fill that size in pixels, what protrudes cut off evenly; blocks."""
    if (pixels.width, pixels.height) == (width, height):
        return pixels
    image = image_from_pixels(pixels).convert("RGB")
    return pixels_from_image(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def filled_mask(mask: Pixels, width: int, height: int) -> Pixels:
    """The mask likewise: one channel, 255 what is repainted and 0 what is kept, nothing between."""
    grey = image_from_pixels(mask).convert("L")
    fitted = np.asarray(ImageOps.fit(grey, (width, height), Image.Resampling.NEAREST))
    return Pixels(array=np.where(fitted >= _HALF, 255, 0).astype(np.uint8)[:, :, np.newaxis])


def picture_from_file(vendor: str, data: bytes, *, width: int, height: int) -> Encoded | Pixels:
    """The file with its true type if it has that size in pixels, else its picture filled into it; blocks.

    All of it is decoded, so that a broken file is found here.

    Raises:
        EngineFailedError: it is no PNG, JPEG or WebP picture, a broken one, or too large to decode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise EngineFailedError(
                    f"{vendor} delivered {image.width} x {image.height} pixels, more than {_MOST_PIXELS}"
                )
            image.load()
            if image.size != (width, height):
                return filled(pixels_from_image(image), width, height)
            kind = Image.MIME[image.format or ""]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EngineFailedError(f"{vendor} delivered a picture that cannot be decoded") from error
    return Encoded(media_type=kind, data=data, width=width, height=height)
