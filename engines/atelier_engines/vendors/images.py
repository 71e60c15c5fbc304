"""Images sent to and received from remote services: encoding, resizing, and validation of result files."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL, DecodingBudget
from atelier_engines.decoding.header import ImageHeader, UndecodableError, read_header
from atelier_engines.decoding.pixels import decode_image
from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Encoded, Pixels, image_from_pixels, pixels_from_image
from atelier_engines.preview import preview_from_pixels
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread

_MAX_PIXELS = 64 * 2**20
_MAX_PREVIEW_PIXELS = 16 * 2**20
_MASK_THRESHOLD = 128
_BUDGET = DecodingBudget(_MAX_PIXELS * DECODING_BYTES_PER_PIXEL)
"""Of all results and previews together: one of the largest, or many of the usual size."""


def encode_png(pixels: Pixels) -> bytes:
    """The image as a PNG file; blocks."""
    file = io.BytesIO()
    image_from_pixels(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def resize_to_cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """The image scaled to cover that size in pixels and cropped to it at the centre; blocks."""
    if (pixels.width, pixels.height) == (width, height):
        return pixels
    image = image_from_pixels(pixels).convert("RGB")
    return pixels_from_image(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))


def resize_mask_to_cover(mask: Pixels, width: int, height: int) -> Pixels:
    """The mask resized likewise: one channel, 255 where to inpaint, 0 elsewhere; blocks."""
    grey = image_from_pixels(mask).convert("L")
    fitted = np.asarray(ImageOps.fit(grey, (width, height), Image.Resampling.NEAREST))
    return Pixels(
        array=np.where(fitted >= _MASK_THRESHOLD, 255, 0).astype(np.uint8)[:, :, np.newaxis]
    )


def invert_mask(mask: Pixels) -> Pixels:
    """The mask with 0 where to inpaint and 255 elsewhere, as some services take it."""
    return Pixels(array=np.subtract(255, mask.array))


async def encode_task_image(task: ImageTask, image: Pixels) -> bytes:
    """An input image of the task as a PNG file in the task's size, encoded in a thread."""

    def encode() -> bytes:
        return encode_png(resize_to_cover(image, task.width, task.height))

    return await result_from_thread(encode)


async def encode_task_mask(task: ImageTask, mask: Pixels, *, inverted: bool = False) -> bytes:
    """The task's mask as a PNG file in the task's size, encoded in a thread."""

    def encode() -> bytes:
        resized = resize_mask_to_cover(mask, task.width, task.height)
        return encode_png(invert_mask(resized) if inverted else resized)

    return await result_from_thread(encode)


async def load_file(vendor: str, data: bytes) -> Encoded:
    """The file with its actual media type and size, decoded whole, so that a broken one is found here.

    That happens in a thread, and within a budget of memory for the results of all services together.

    Raises:
        EngineFailedError: it is not a valid PNG, JPEG, WebP or AVIF file, or has too many pixels.
    """
    header, _ = await _decode_result(vendor, data)
    return _describe(header, data)


async def load_result(vendor: str, data: bytes, task: ImageTask) -> Encoded | Pixels:
    """The file as by `load_file` if it has the task's size in pixels, else its image resized to it.

    Resized ones are sRGB, by the profile of the file, and on white where the file is transparent.

    Raises:
        EngineFailedError: as `load_file`.
    """
    header, pixels = await _decode_result(vendor, data)
    if header.size == (task.width, task.height):
        return _describe(header, data)
    return await result_from_thread(partial(resize_to_cover, pixels, task.width, task.height))


async def load_preview(data: bytes, *, min_side: int = 0) -> Encoded | None:
    """A preview file scaled down, or None if it cannot be decoded: a broken preview is no failure.

    One whose longer side is shorter than `min_side` pixels, as where a service shows the latents, is scaled up to that.
    """
    try:
        header = await result_from_thread(partial(read_header, data))
        if header.pixels > _MAX_PREVIEW_PIXELS:
            return None
        pixels = await _decode(data, header)
    except UndecodableError:
        return None
    return await result_from_thread(lambda: preview_from_pixels(_scale_up(pixels, min_side)))


def _scale_up(pixels: Pixels, side: int) -> Pixels:
    longer = max(pixels.width, pixels.height)
    if longer >= side:
        return pixels
    size = (round(pixels.width * side / longer) or 1, round(pixels.height * side / longer) or 1)
    return pixels_from_image(image_from_pixels(pixels).resize(size, Image.Resampling.BILINEAR))


def _describe(header: ImageHeader, data: bytes) -> Encoded:
    width, height = header.size
    media_type = f"image/{header.format.lower()}"
    return Encoded(media_type=media_type, data=data, width=width, height=height)


async def _decode_result(vendor: str, data: bytes) -> tuple[ImageHeader, Pixels]:
    try:
        header = await result_from_thread(partial(read_header, data))
        if header.pixels > _MAX_PIXELS:
            width, height = header.decoded_size
            raise EngineFailedError(
                f"{vendor} sent an image of {width} x {height} pixels; the limit is {_MAX_PIXELS}"
            )
        return header, await _decode(data, header)
    except UndecodableError as error:
        raise EngineFailedError(f"{vendor} sent an image that cannot be decoded") from error


async def _decode(data: bytes, header: ImageHeader) -> Pixels:
    async with _BUDGET.reserve(header.pixels * DECODING_BYTES_PER_PIXEL + len(data)):
        decoded = await result_from_thread(partial(decode_image, data, header, ["RGB"]))
    return decoded["RGB"]
