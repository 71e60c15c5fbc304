"""Decodes images that callers send, which may be anything. Blocking: call it in a thread."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from atelier_engines.media import Pixels

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")  # every format of outputs is accepted as input


class UndecodableError(ValueError):
    """The bytes are not an image of a supported format; the message says why."""


def decode_image(data: bytes, *, max_pixels: int, grey: bool = False) -> Pixels:
    """Decode an image to RGB, or to one channel with `grey`, with its EXIF orientation applied.

    Transparent parts become white. The size is checked before any pixel is decoded.

    Raises:
        UndecodableError: not a PNG, JPEG, WebP or AVIF file, damaged, or more than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _require_pixels(image, max_pixels)
            upright = ImageOps.exif_transpose(image)
            return Pixels(array=_to_array(upright, grey=grey))
    except UndecodableError:
        raise
    except Image.DecompressionBombError as error:
        msg = f"an image may have at most {max_pixels} pixels; this one has far more"
        raise UndecodableError(msg) from error
    except UnidentifiedImageError as error:
        msg = "not a PNG, JPEG, WebP or AVIF image"
        raise UndecodableError(msg) from error
    except Exception as error:  # decoders raise errors of any type on damaged files
        msg = "the image is damaged"
        raise UndecodableError(msg) from error


def read_image_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the header of an image; None if the bytes are not an image of a supported format.

    The beginning of a PNG or JPEG file is enough.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return image.size
    except Exception:  # noqa: BLE001 (decoders raise errors of any type; the upload itself is valid)
        return None


def _require_pixels(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        msg = f"an image may have at most {max_pixels} pixels, not {image.width} x {image.height}"
        raise UndecodableError(msg)


def _to_array(image: Image.Image, *, grey: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    array = np.asarray(image.convert("L" if grey else "RGB"))
    return array[:, :, None] if grey else array
