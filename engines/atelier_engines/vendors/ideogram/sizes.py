"""The sizes that Ideogram generates, and the selection of the nearest one.

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
"""Supported sizes as (width, height) in pixels."""
MAX_PIXELS = max(width * height for width, height in SIZES)
"""Pixels of the largest supported size."""


def nearest_size(width: int, height: int) -> tuple[int, int]:
    """Return the supported size with the most similar aspect ratio; among equals, the most similar area."""

    def distance(size: tuple[int, int]) -> tuple[float, float]:
        shape = math.log(size[0] * height / (size[1] * width))
        area = math.log(size[0] * size[1] / (width * height))
        return round(abs(shape), 9), abs(area)

    return min(sorted(SIZES), key=distance)
