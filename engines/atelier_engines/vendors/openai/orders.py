"""From a task to what is asked of OpenAI."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.openai.config import (
    Background,
    OpenaiConfig,
    OpenaiOptions,
    Quality,
)
from atelier_engines.vendors.options import parse_options

_FIXED = ((1536, 1024), (1024, 1024), (1024, 1536))
_LONGEST_RATIO = 3
_MOST_PREVIEWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all pictures of one task have in common."""

    prompt: str
    """What the picture shows."""
    size: str
    """Width x height in pixels."""
    quality: Quality | None
    """None for the service's choice."""
    background: Background | None
    """None for the service's choice."""
    previews: int
    """Most previews of one picture, 0 to 3."""
    image: bytes | None = None
    """Picture to start from: PNG."""
    mask: bytes | None = None
    """Where to repaint it, as transparency: PNG of the same size."""


def order_of(task: ImageTask, config: OpenaiConfig) -> Order:
    """What to ask for; blocks while pictures are encoded.

    Raises:
        InvalidTaskError: an option has a value that it cannot have, or the shape is too long.
    """
    options = parse_options(task, OpenaiOptions)
    width, height = _size(task, any_size=config.any_size)
    image = mask = None
    if task.init_image is not None:
        start = resize_to_cover(task.init_image, width, height)
        image = encode_png(start)
        if task.mask is not None:
            mask = _transparent(start, resize_mask_to_cover(task.mask, width, height))
    return Order(
        prompt=task.prompt,
        size=f"{width}x{height}",
        quality=options.quality or config.quality,
        background=options.background,
        previews=previews_of(task.preview_interval, most=config.partial_images),
        image=image,
        mask=mask,
    )


def previews_of(interval: int, *, most: int) -> int:
    """How many of the three possible previews an interval asks for; one at least, but none for 0."""
    return min(most, max(1, _MOST_PREVIEWS // interval)) if interval else 0


def _size(task: ImageTask, *, any_size: bool) -> tuple[int, int]:
    if not any_size:
        return min(
            _FIXED, key=lambda size: abs(math.log(size[0] * task.height / size[1] / task.width))
        )
    longer, shorter = max(task.width, task.height), min(task.width, task.height)
    if longer > _LONGEST_RATIO * shorter:
        field = "height" if task.width > task.height else "width"
        least = -(-longer // _LONGEST_RATIO)
        msg = f"{field} must be at least a third of the other side: {least}, not {shorter}"
        raise InvalidTaskError(field, msg)
    return task.width, task.height


def _transparent(image: Pixels, mask: Pixels) -> bytes:
    colours = np.broadcast_to(image.array, (*image.array.shape[:2], 3))
    file = io.BytesIO()
    rgba = np.concatenate([colours, np.subtract(255, mask.array)], axis=2).astype(np.uint8)
    Image.fromarray(rgba).save(file, "PNG", compress_level=1)
    return file.getvalue()
