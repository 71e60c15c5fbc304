"""Images sent to and received from remote services: encoding, resizing, and validation of result files."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Encoded, Pixels, image_from_pixels, pixels_from_image
from atelier_engines.preview import preview_from_image
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread

_MAX_PIXELS = 64 * 2**20
_MAX_PREVIEW_PIXELS = 16 * 2**20
_MASK_THRESHOLD = 128
_FORMATS = ("PNG", "JPEG", "WEBP")


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


def load_result_image(vendor: str, data: bytes, *, width: int, height: int) -> Encoded | Pixels:
    """The file with its actual media type if it has that size in pixels, else its image resized to it; blocks.

    Raises:
        EngineFailedError: as `load_file`.
    """
    image, media_type = _decode(vendor, data)
    if image.size != (width, height):
        return resize_to_cover(pixels_from_image(image), width, height)
    return Encoded(media_type=media_type, data=data, width=width, height=height)


async def load_file(vendor: str, data: bytes) -> Encoded:
    """The file with its actual media type and size, decoded whole in a thread, so that a broken one is found here.

    Raises:
        EngineFailedError: it is not a valid PNG, JPEG or WebP file, or has too many pixels.
    """
    image, media_type = await result_from_thread(partial(_decode, vendor, data))
    return Encoded(media_type=media_type, data=data, width=image.width, height=image.height)


def _decode(vendor: str, data: bytes) -> tuple[Image.Image, str]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise EngineFailedError(
                    f"{vendor} sent an image of {image.width} x {image.height} pixels; the limit is {_MAX_PIXELS}"
                )
            image.load()
            return image, Image.MIME[image.format or ""]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EngineFailedError(f"{vendor} sent an image that cannot be decoded") from error


async def load_result(vendor: str, data: bytes, task: ImageTask) -> Encoded | Pixels:
    """The result file of a task, validated and resized as by `load_result_image`, in a thread.

    Raises:
        EngineFailedError: as `load_result_image`.
    """
    load = partial(load_result_image, vendor, data, width=task.width, height=task.height)
    return await result_from_thread(load)


async def load_preview(data: bytes) -> Encoded | None:
    """A preview file scaled down, or None if it cannot be decoded: a broken preview is no failure."""
    return await result_from_thread(partial(_scale_preview, data))


def _scale_preview(data: bytes) -> Encoded | None:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PREVIEW_PIXELS:
                return None
            return preview_from_image(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
