"""Builds the request of a task; all its images share it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atelier_engines.errors import InvalidTaskError
from atelier_engines.media import Pixels
from atelier_engines.options import parse_options
from atelier_engines.task import ImageTask
from atelier_engines.vendors.images import (
    encode_png,
    invert_mask,
    resize_mask_to_cover,
    resize_to_cover,
)
from atelier_engines.vendors.openai.config import (
    Background,
    Moderation,
    OpenaiConfig,
    OpenaiOptions,
    Quality,
)

_FIXED_SIZES = ((1536, 1024), (1024, 1024), (1024, 1536))
_MAX_ASPECT_RATIO = 3
_MAX_PREVIEWS = 3
_GRID = 16
_MIN_PIXELS = 655_360
"""Of models that generate any size; source: developers.openai.com, api/docs/guides/image-generation, November 2026."""
_MAX_MASK_BYTES = 4_000_000
"""Exclusive; source: `openai` 3.57.0, types/image_edit_params.py."""
_COMPRESS_LEVELS = (1, 6)
"""Of masks: the second, which takes longer, only for those that are too large otherwise."""


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
    moderation: Moderation | None
    """Strictness of moderation; None for the service's default."""
    previews: int
    """Maximum previews of one image, 0 to 3."""
    image: bytes | None = None
    """Init image as a PNG file."""
    mask: bytes | None = None
    """Mask as a PNG file of the same size, transparent where to inpaint."""


def build_request(task: ImageTask, config: OpenaiConfig) -> ImageRequest:
    """Build the request of the task; blocks to encode images.

    Raises:
        InvalidTaskError: an option has an invalid value, the aspect ratio is too large, or the mask.
    """
    options = parse_options(task, OpenaiOptions)
    width, height = _choose_size(task, any_size=config.any_size)
    image = mask = None
    if task.init_image is not None:
        resized = resize_to_cover(task.init_image, width, height)
        image = encode_png(resized)
        if task.mask is not None:
            mask = encode_mask(resize_mask_to_cover(task.mask, width, height))
    return ImageRequest(
        prompt=task.prompt,
        size=f"{width}x{height}",
        quality=options.quality or config.quality,
        background=options.background,
        moderation=_select_moderation(task, options, config),
        previews=count_previews(task.preview_interval, limit=config.partial_images),
        image=image,
        mask=mask,
    )


def _select_moderation(
    task: ImageTask, options: OpenaiOptions, config: OpenaiConfig
) -> Moderation | None:
    wanted, allowed = options.moderation, config.moderations
    if wanted is not None and wanted not in allowed:
        msg = f"options.moderation must be {' or '.join(allowed)}, not {wanted}"
        raise InvalidTaskError("options.moderation", msg)
    if wanted is not None and task.init_image is not None:
        msg = "omit options.moderation with an init image: the service does not take it for edits"
        raise InvalidTaskError("options.moderation", msg)
    return wanted or config.moderation


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
    return _raise_to_minimum(task.width, task.height)


def _raise_to_minimum(width: int, height: int) -> tuple[int, int]:
    """The size itself, or the next one of about its aspect ratio that has as many pixels as the service demands."""
    scale = math.sqrt(_MIN_PIXELS / (width * height))
    if scale <= 1:
        return width, height
    return math.ceil(width * scale / _GRID) * _GRID, math.ceil(height * scale / _GRID) * _GRID


def encode_mask(mask: Pixels) -> bytes:
    """The mask as a PNG file of one colour that is transparent where to inpaint; blocks.

    Args:
        mask: one channel, 255 where to inpaint, 0 elsewhere.

    Raises:
        InvalidTaskError: the file would be larger than the service takes.
    """
    rgba = np.zeros((mask.height, mask.width, 4), np.uint8)
    rgba[:, :, 3:] = invert_mask(mask).array
    image, size = Image.fromarray(rgba), 0
    for level in _COMPRESS_LEVELS:
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=level)
        size = file.tell()
        if size < _MAX_MASK_BYTES:
            return file.getvalue()
    msg = f"mask must be less than {_MAX_MASK_BYTES} bytes as a PNG file, not {size}: use one with simpler edges"
    raise InvalidTaskError("mask", msg)
