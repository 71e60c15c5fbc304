"""Turns files that callers send into pixels, trusting nothing. Blocking: call it in a thread."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from atelier_engines.media import Pixels

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")  # all that we write: outputs go in again


class UndecodableError(ValueError):
    """The bytes are no picture that we take; the text says why."""


def decode(data: bytes, *, max_pixels: int, grey: bool = False) -> Pixels:
    """The picture as pixels: red, green, blue, or one channel with `grey`; turned as its EXIF says.

    Transparent parts become white. The size is checked before anything is unpacked.

    Raises:
        UndecodableError: no PNG, JPEG, WebP or AVIF, broken, or more than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            _require_small(picture, max_pixels)
            upright = ImageOps.exif_transpose(picture)
            return Pixels(array=_array(upright, grey=grey))
    except UndecodableError:
        raise
    except Image.DecompressionBombError as error:
        msg = f"a picture may have at most {max_pixels} pixels, and this one has far more"
        raise UndecodableError(msg) from error
    except UnidentifiedImageError as error:
        msg = "this is no PNG, JPEG, WebP or AVIF picture"
        raise UndecodableError(msg) from error
    except Exception as error:  # decoders raise whatever they like on broken files
        msg = "this picture is broken"
        raise UndecodableError(msg) from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height that a picture's header states; None when the file is no picture that we take."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            return picture.size
    except Exception:  # noqa: BLE001 (decoders raise whatever they like; the upload itself is fine)
        return None


def _require_small(picture: Image.Image, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        msg = f"a picture may have at most {max_pixels} pixels, not {picture.width} x {picture.height}"
        raise UndecodableError(msg)


def _array(picture: Image.Image, *, grey: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    array = np.asarray(picture.convert("L" if grey else "RGB"))
    return array[:, :, None] if grey else array
