"""Decodes images that callers send, which may be anything, in threads and within a memory budget of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.media import Pixels
from atelier_engines.threads import result_from_thread
from atelier_server.artifacts.color_profiles import ColorConverter
from atelier_server.artifacts.decoding_budget import DecodingBudget
from atelier_server.artifacts.image_header import ImageHeader, UndecodableError, read_header
from atelier_server.artifacts.png_text import drop_png_text
from atelier_server.artifacts.samples import Samples, open_image
from atelier_server.config.settings import DECODING_BYTES_PER_PIXEL
from atelier_server.malloc import trim_malloc
from atelier_server.metrics import DECODING_BYTES

ResultT = TypeVar("ResultT")
Mode: TypeAlias = Literal["RGB", "L"]
Background: TypeAlias = Literal["white", "black"]

DECODED_BYTES_PER_PIXEL = 4
"""Memory for each pixel of a decoded image, as RGB and as grey."""

_Array: TypeAlias = NDArray[np.uint8]
_CHANNELS: Mapping[Mode, int] = {"RGB": 3, "L": 1}
_HALF = np.float32(0.5)
_STRIP_PIXELS = 2**17  # converted at once, while Python's lock is held
_MAX_THREADS = 4
_TRIM_BYTES = 2**25  # reserved at once, from which the memory is given back


class Decoder:
    """Reads headers and decodes images, on threads of its own: engines may block those of asyncio's executor."""

    def __init__(self, *, max_pixels: int, max_bytes: int) -> None:
        """Reject images of more than `max_pixels`; use at most `max_bytes` for all that is being decoded."""
        self.max_pixels = max_pixels
        self.budget = DecodingBudget(max_bytes, on_idle=self._trim)
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        DECODING_BYTES.set_function(lambda: self.budget.reserved_bytes)

    async def read_header(self, data: bytes) -> ImageHeader:
        """The header of an image file.

        Raises:
            UndecodableError: not a PNG, JPEG, WebP or AVIF file, truncated, or more than the maximum of pixels.
        """
        header = await self._run(partial(read_header, data))
        if header.pixels > self.max_pixels:
            size = f"{header.stored_width} x {header.stored_height}"
            msg = f"an image may have at most {self.max_pixels} pixels, not {size}"
            raise UndecodableError(msg)
        return header

    async def decode(
        self, data: bytes, modes: Sequence[Mode], background: Background = "white"
    ) -> Mapping[Mode, Pixels]:
        """The image in each of the modes, as `decode_image`; the caller has reserved the memory.

        Raises:
            UndecodableError: as `read_header`, or the image is damaged.
        """
        header = await self.read_header(data)
        return await self._run(partial(decode_image, data, header, modes, background))

    def close(self) -> None:
        """Accept nothing more; what is being decoded is finished."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], ResultT]) -> ResultT:
        return await result_from_thread(work, executor=self._threads)

    def _trim(self, most_bytes: int) -> None:
        if most_bytes >= _TRIM_BYTES:
            with suppress(RuntimeError):  # closed meanwhile
                self._threads.submit(trim_malloc)


def count_bytes(pixels: Sequence[int], file_bytes: Sequence[int]) -> int:
    """Memory to decode images of so many pixels, from files of so many bytes, one after the other, keeping each."""
    extra = DECODING_BYTES_PER_PIXEL - DECODED_BYTES_PER_PIXEL
    most = max((count * extra + size for count, size in zip(pixels, file_bytes, strict=True)))
    return count_decoded_bytes(pixels) + most


def count_decoded_bytes(pixels: Sequence[int]) -> int:
    """Memory of decoded images of so many pixels."""
    return sum(pixels) * DECODED_BYTES_PER_PIXEL


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
        data, profile = drop_png_text(data)
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
