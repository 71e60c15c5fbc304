"""Builds the request of a task; all its images share it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.images import (
    encode_png,
    invert_mask,
    resize_mask_to_cover,
    resize_to_cover,
)
from atelier_engines.vendors.openai.config import (
    Background,
    OpenaiConfig,
    OpenaiOptions,
    Quality,
)
from atelier_engines.vendors.options import parse_options

_FIXED_SIZES = ((1536, 1024), (1024, 1024), (1024, 1536))
_MAX_ASPECT_RATIO = 3
_MAX_PREVIEWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """Content that all requests of one task share."""

    prompt: str
    """Prompt of the task."""
    size: str
    """Width x height in pixels."""
    quality: Quality | None
    """Quality; None for the service's default."""
    background: Background | None
    """Background; None for the service's default."""
    previews: int
    """Maximum previews of one image, 0 to 3."""
    image: bytes | None = None
    """Init image as a PNG file."""
    mask: bytes | None = None
    """Mask as a PNG file of the same size, transparent where to inpaint."""


def build_request(task: ImageTask, config: OpenaiConfig) -> ImageRequest:
    """Build the request of the task; blocks to encode images.

    Raises:
        InvalidTaskError: an option has an invalid value, or the aspect ratio is too large.
    """
    options = parse_options(task, OpenaiOptions)
    width, height = _choose_size(task, any_size=config.any_size)
    image = mask = None
    if task.init_image is not None:
        resized = resize_to_cover(task.init_image, width, height)
        image = encode_png(resized)
        if task.mask is not None:
            mask = _encode_mask(resized, resize_mask_to_cover(task.mask, width, height))
    return ImageRequest(
        prompt=task.prompt,
        size=f"{width}x{height}",
        quality=options.quality or config.quality,
        background=options.background,
        previews=count_previews(task.preview_interval, limit=config.partial_images),
        image=image,
        mask=mask,
    )


def count_previews(interval: int, *, limit: int) -> int:
    """Number of previews to request, of the three possible ones; at least one unless the interval is 0."""
    return min(limit, max(1, _MAX_PREVIEWS // interval)) if interval else 0


def _choose_size(task: ImageTask, *, any_size: bool) -> tuple[int, int]:
    if not any_size:
        return min(
            _FIXED_SIZES,
            key=lambda size: abs(math.log(size[0] * task.height / size[1] / task.width)),
        )
    longer, shorter = max(task.width, task.height), min(task.width, task.height)
    if longer > _MAX_ASPECT_RATIO * shorter:
        field = "height" if task.width > task.height else "width"
        least = -(-longer // _MAX_ASPECT_RATIO)
        msg = f"{field} must be at least a third of the other side: {least}, not {shorter}"
        raise InvalidTaskError(field, msg)
    return task.width, task.height


def _encode_mask(image: Pixels, mask: Pixels) -> bytes:
    rgb = np.broadcast_to(image.array, (*image.array.shape[:2], 3))
    alpha = invert_mask(mask).array
    file = io.BytesIO()
    rgba = np.concatenate([rgb, alpha], axis=2).astype(np.uint8)
    Image.fromarray(rgba).save(file, "PNG", compress_level=1)
    return file.getvalue()
