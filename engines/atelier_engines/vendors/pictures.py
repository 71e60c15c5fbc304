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


def picture_from_file(vendor: str, data: bytes) -> Encoded:
    """The file with its true type and size in pixels; all of it is decoded once, and blocks.

    Raises:
        EngineFailedError: it is no picture, a broken one, or too large to decode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise EngineFailedError(
                    f"{vendor} delivered {image.width} x {image.height} pixels, more than {_MOST_PIXELS}"
                )
            image.load()
            media_type = Image.MIME[image.format or ""]
            return Encoded(media_type=media_type, data=data, width=image.width, height=image.height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EngineFailedError(f"{vendor} delivered a picture that cannot be decoded") from error


def of_size(vendor: str, found: Encoded, width: int, height: int) -> Encoded | Pixels:
    """The picture itself if it has that size in pixels, else filled into it; blocks.

    Raises:
        EngineFailedError: it cannot be decoded.
    """
    if (found.width, found.height) == (width, height):
        return found
    try:
        with Image.open(io.BytesIO(found.data)) as image:
            return filled(pixels_from_image(image), width, height)
    except (OSError, SyntaxError, ValueError) as error:
        raise EngineFailedError(f"{vendor} delivered a picture that cannot be decoded") from error
