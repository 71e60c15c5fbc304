"""Pillow and NumPy, imported where a caller uses them: the client works without.

Arrays have the shape (height, width, channels), rows from the top, in RGB or RGBA; or (height, width), in grey.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from atelier_client.errors import InvalidRequestError, MissingPackageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PillowImage

    UInt8Array: TypeAlias = NDArray[np.uint8]
    AnyArray: TypeAlias = NDArray[np.generic]

_PNG_MODES = frozenset(("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"))
_THUMBNAIL_QUALITY = 80
_COLOUR_DIMENSIONS = 3
"""Dimensions of an array with channels."""


def open_image(data: bytes) -> PillowImage:
    """The decoded image, upright and in memory.

    Raises:
        MissingPackageError: Pillow is not installed, or cannot decode this format.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("Pillow") from error
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError as error:
        raise MissingPackageError("this Pillow cannot decode the image's format") from error
    return ImageOps.exif_transpose(image)


def decode_array(data: bytes) -> UInt8Array:
    """The pixels of an image, 0 to 255.

    Raises:
        MissingPackageError: Pillow or NumPy is not installed.
    """
    try:
        import numpy as np  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("NumPy") from error
    image = open_image(data)
    if image.mode not in {"L", "RGB", "RGBA"}:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return np.asarray(image)


def make_thumbnail(data: bytes, longest_side: int) -> bytes | None:
    """A small WebP of an image; None where Pillow is not installed."""
    try:
        image = open_image(data)
    except MissingPackageError:
        return None
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def is_pillow_image(value: object) -> TypeGuard[PillowImage]:
    """Whether a value is an image of Pillow, which is not imported to answer that."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def is_array(value: object) -> TypeGuard[AnyArray]:
    """Whether a value is an array of NumPy, which is not imported to answer that."""
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def encode_image(image: PillowImage) -> bytes:
    """The image as a PNG, with its colour profile and its orientation.

    Raises:
        InvalidRequestError: PNG cannot hold its mode, or it cannot be read.
    """
    buffer = io.BytesIO()
    try:
        image.load()
        image.save(buffer, "PNG", compress_level=1, exif=image.getexif())
    except Exception as error:  # Pillow raises what its decoders do, also SyntaxError
        if image.mode in _PNG_MODES:
            raise InvalidRequestError(f"the image cannot be read: {error}") from error
        remedy = (
            "scale it to 0 to 1, and give it as an array"
            if image.mode[0] in "IF"
            else "use image.convert('RGB')"
        )
        raise InvalidRequestError(
            f"an image of mode {image.mode!r} cannot be sent: {remedy}"
        ) from error
    return buffer.getvalue()


def encode_array(array: AnyArray) -> bytes:
    """The array as a PNG: uint8 as it is, floating point from 0 to 1, bool as black and white.

    Raises:
        InvalidRequestError: another type, range or shape.
        MissingPackageError: Pillow is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("Pillow") from error
    channels = array.shape[2] if array.ndim == _COLOUR_DIMENSIONS else 1
    if array.ndim not in {2, _COLOUR_DIMENSIONS} or channels not in {1, 3, 4} or not array.size:
        raise InvalidRequestError(
            "an array must have the shape (height, width), or (height, width, channels) with"
            f" 1, 3 or 4 channels, not {array.shape}"
        )
    levels = _to_levels(array)
    return encode_image(Image.fromarray(levels.squeeze(2) if array.shape[2:] == (1,) else levels))


def _to_levels(array: AnyArray) -> UInt8Array:
    import numpy as np  # noqa: PLC0415 - the caller has an array, so it is installed

    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)
        if not (values.min() >= 0.0 and values.max() <= 1.0):
            raise InvalidRequestError("an array of floating point must be in the range 0 to 1")
        return np.rint(values * 255.0).astype(np.uint8)
    raise InvalidRequestError(
        f"an array must be uint8, floating point from 0 to 1, or bool, not {array.dtype}"
    )


def _missing(package: str) -> MissingPackageError:
    return MissingPackageError(f"{package} is not installed: pip install 'atelier-client[images]'")
