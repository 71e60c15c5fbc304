"""The sizes that SDXL was trained with, for tasks that are to be made in one of them.

Source: "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (arXiv 2307.01952), appendix I.
"""

from __future__ import annotations

import math
from dataclasses import replace

from atelier_engines.options import parse_options
from atelier_engines.task import ImageTask
from atelier_engines.vendors.invokeai.config import InvokeAiConfig, InvokeAiOptions

_TALL = (
    *((512, 2048), (512, 1984), (512, 1920), (512, 1856)),
    *((576, 1792), (576, 1728), (576, 1664)),
    *((640, 1600), (640, 1536)),
    *((704, 1472), (704, 1408), (704, 1344)),
    *((768, 1344), (768, 1280)),
    *((832, 1216), (832, 1152)),
    *((896, 1152), (896, 1088)),
    *((960, 1088), (960, 1024)),
)
SIZES = (*_TALL, (1024, 1024), *((height, width) for width, height in _TALL))
"""Width and height in pixels, about 1024 x 1024 of them."""


def choose_size(task: ImageTask, config: InvokeAiConfig) -> tuple[ImageTask, str]:
    """The task in the size to make it in, and why that is not its own; empty if it is.

    Raises:
        InvalidTaskError: an option is invalid.
    """
    mode = parse_options(task, InvokeAiOptions).sizes or config.sizes
    width, height = find_nearest(task.width, task.height)
    if mode == "any" or (width, height) == (task.width, task.height):
        return task, ""
    reason = f"the size that SDXL was trained with which is nearest to {task.width}x{task.height}"
    return replace(task, width=width, height=height), reason


def find_nearest(width: int, height: int) -> tuple[int, int]:
    """The training size of the nearest proportions; of those that are equally near, the one with the most pixels."""
    return min(
        SIZES,
        key=lambda size: (abs(math.log(size[0] * height / (size[1] * width))), -size[0] * size[1]),
    )
