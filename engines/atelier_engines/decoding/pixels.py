"""Decodes image files: upright, in sRGB, with 8 bits a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.decoding.color_profiles import ColorConverter
from atelier_engines.decoding.header import ImageHeader, UndecodableError
from atelier_engines.decoding.png_chunks import strip_png
from atelier_engines.decoding.samples import Samples, open_image
from atelier_engines.media import Pixels

Mode: TypeAlias = Literal["RGB", "L"]
Background: TypeAlias = Literal["white", "black"]

_Array: TypeAlias = NDArray[np.uint8]
_CHANNELS: Mapping[Mode, int] = {"RGB": 3, "L": 1}
_HALF = np.float32(0.5)
_STRIP_PIXELS = 2**17  # converted at once, while Python's lock is held


def decode_image(
    data: bytes, header: ImageHeader, modes: Sequence[Mode], background: Background = "white"
) -> Mapping[Mode, Pixels]:
    """The image in RGB (3 channels) or grey (L, 1 channel), with its EXIF orientation applied; blocks.

    Colours are converted to sRGB by the ICC profile of the file. Of samples of 16 bits, 65535 becomes 255. Transparent
    parts of RGB get the colour of `background`; grey images are masks, and there they are black. Of an animation it is
    the first frame.

    Raises:
        UndecodableError: the image is damaged, or not what its header says.
    """
    try:
        arrays = _decode(data, header, modes, background)
    except Exception as error:  # decoders raise errors of any type on damaged files
        msg = "the image is damaged"
        raise UndecodableError(msg) from error
    return {
        mode: Pixels(array=_turn_upright(array, header.orientation))
        for mode, array in arrays.items()
    }


def _decode(
    data: bytes, header: ImageHeader, modes: Sequence[Mode], background: Background
) -> dict[Mode, _Array]:
    """The image as stored. Converted in strips: each conversion needs memory and Python's lock for all it gets."""
    profile = None
    if header.format == "PNG":
        data, profile = strip_png(data)
    image = open_image(data, header.format)
    if image.size != (header.stored_width, header.stored_height):
        msg = f"{image.size} differs from the header"
        raise ValueError(msg)
    colors = ColorConverter(profile or image.profile)
    width, height = image.size
    arrays = {mode: np.empty((height, width, _CHANNELS[mode]), np.uint8) for mode in modes}
    count = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, count):
        rows = image.read_rows(top, min(top + count, height))
        converted = colors.convert(rows.colors)
        for mode, array in arrays.items():
            level = 0 if mode == "L" or background == "black" else 255
            flat = converted if rows.alpha is None else _flatten(converted, rows.alpha, level)
            array[top : top + count] = _to_grey(flat) if mode == "L" else flat
    return arrays


def _flatten(colors: _Array, alpha: Samples, level: int) -> _Array:
    """The colours on a grey background of that level."""
    share = alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    return (colors * share + level * (1 - share) + _HALF).astype(np.uint8)


def _to_grey(colors: _Array) -> _Array:
    """The luma of the colours (ITU-R BT.601), one channel."""
    if colors.shape[2] == 1:
        return colors
    return np.asarray(Image.fromarray(colors).convert("L"))[:, :, np.newaxis]


def _turn_upright(array: _Array, orientation: int) -> _Array:
    """Apply an EXIF orientation (Exif 3.0, 4.6.5.1.7)."""
    if orientation == 1:
        return array
    turned = array.transpose(1, 0, 2) if orientation in {5, 6, 7, 8} else array
    rows = slice(None, None, -1 if orientation in {3, 4, 7, 8} else 1)
    columns = slice(None, None, -1 if orientation in {2, 3, 6, 7} else 1)
    return np.ascontiguousarray(turned[rows, columns])
