"""The sizes that Ideogram draws in, and which of them is nearest to the one asked for.

Source: the OpenAPI document of api.ideogram.ai as of June 2026, parameter `resolution` of version 3.
"""

from __future__ import annotations

import math

_TALL = {
    512: (1536,),
    576: (1408, 1472, 1536),
    640: (1344, 1408, 1472, 1536),
    704: (1152, 1216, 1280, 1344, 1408, 1472),
    736: (1312,),
    768: (1088, 1216, 1280, 1344),
    800: (1280,),
    832: (960, 1024, 1088, 1152, 1216, 1248),
    864: (1152,),
    896: (960, 1024, 1088, 1120, 1152),
    960: (1024, 1088),
}
_UPRIGHT = tuple((width, height) for width, heights in _TALL.items() for height in heights)
SIZES = frozenset({*_UPRIGHT, *((height, width) for width, height in _UPRIGHT), (1024, 1024)})
"""(width, height) in pixels."""
MAX_PIXELS = max(width * height for width, height in SIZES)
"""Of the largest."""


def nearest(width: int, height: int) -> tuple[int, int]:
    """The size of the most similar shape; among equals the one of the most similar area."""

    def apart(size: tuple[int, int]) -> tuple[float, float]:
        shape = math.log(size[0] * height / (size[1] * width))
        area = math.log(size[0] * size[1] / (width * height))
        return round(abs(shape), 9), abs(area)

    return min(sorted(SIZES), key=apart)
