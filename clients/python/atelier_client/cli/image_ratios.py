"""Chooses the size of an image from a ratio of its sides, as `--ratio 16:9` asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import click

from atelier_client.engines import ImageCapabilities, IntegerRange
from atelier_client.tasks import AudioTask, ImageTask, RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client

_MAX_DEVIATION = 0.1
"""Largest difference from the ratio that is asked for, as a fraction of it."""
_RATIO_WEIGHT = 4
"""How much more the ratio counts than the number of pixels, both as logarithms."""


def apply_ratio(
    client: Client, task: ImageTask | AudioTask, keywords: RequestKeywords, ratio: float | None
) -> ImageTask | AudioTask:
    """The task with a size of that ratio, for the engine that will run it; unchanged without a ratio.

    Raises:
        click.UsageError: the engine has no such size.
        AtelierError: the server cannot tell.
    """
    if ratio is None or not isinstance(task, ImageTask):
        return task
    name = keywords.get("engine", "") or client.plan(task, **keywords).engine
    (engine,) = client.capabilities(name).engines
    width, height = choose_size(engine.image, ratio) if engine.image else (0, 0)
    if abs(width / (height or 1) / ratio - 1) > _MAX_DEVIATION:
        nearest = f"; the nearest is --size {width}x{height}" if width else ""
        raise click.UsageError(f"engine {name} has no size of this --ratio{nearest}")
    return replace(task, width=width, height=height)


def choose_size(engine: ImageCapabilities, ratio: float) -> tuple[int, int]:
    """Width and height nearest to the ratio and to the pixels of the engine's default size.

    Zeros where the engine has no range of sizes.
    """
    if engine.width is None or engine.height is None:
        return 0, 0
    pixels = engine.width.default * engine.height.default
    heights = tuple(_list_allowed(engine.height))
    if engine.height.allowed_values:
        candidates: Iterable[tuple[int, int]] = product(_list_allowed(engine.width), heights)
    else:
        candidates = (
            (width, _find_nearest(engine.height, width / ratio))
            for width in _list_allowed(engine.width)
        )
    fitting = [size for size in candidates if size[0] * size[1] <= engine.max_pixels]

    def miss(size: tuple[int, int]) -> float:
        width, height = size
        return _RATIO_WEIGHT * abs(math.log(width / height / ratio)) + abs(
            math.log(width * height / pixels)
        )

    return min(fitting, key=miss, default=(0, 0))


def _list_allowed(side: IntegerRange) -> Iterable[int]:
    """Every allowed length, in ascending order."""
    step = max(side.multiple_of, 1)
    return side.allowed_values or range(-(-side.min // step) * step, side.max + 1, step)


def _find_nearest(side: IntegerRange, length: float) -> int:
    """The allowed length that is nearest, on a range without `allowed_values`."""
    step = max(side.multiple_of, 1)
    least, most = -(-side.min // step) * step, side.max // step * step
    return min(max(round(length / step) * step, least), most)
