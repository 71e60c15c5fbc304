"""Sizes of an aspect ratio, such as 16:9, among those that an engine makes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from atelier_engines.capabilities import ImageCapabilities, IntegerRange
from atelier_server.errors import InvalidRequestError, Violation

MAX_DEVIATION = 0.1
"""Largest difference of a size from the aspect ratio, as a fraction of it; rounding to a grid stays far below."""
_RATIO_WEIGHT = 4
"""How much more the ratio counts than the number of pixels, both as logarithms."""
_NEIGHBOURS = 16
"""Multiples of the grid that are tried on each side of the ideal width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """An aspect ratio."""

    text: str
    """As the caller wrote it: 16:9."""
    quotient: float
    """Width divided by height."""

    def is_near(self, width: int, height: int) -> bool:
        """Whether that size has about this ratio."""
        return abs(width / height / self.quotient - 1) <= MAX_DEVIATION


def parse_ratio(text: str) -> Ratio:
    """The ratio of a text of the contract's form, `16:9` or `2.39:1`."""
    width, _, height = text.partition(":")
    return Ratio(text=text, quotient=float(width) / float(height))


def choose_sides(capabilities: ImageCapabilities, ratio: Ratio, pixels: int) -> tuple[int, int]:
    """The width and height that the engine makes which are nearest to the ratio, and then to that number of pixels."""

    def miss(size: tuple[int, int]) -> float:
        shape = abs(math.log(size[0] / size[1] / ratio.quotient))
        return _RATIO_WEIGHT * shape + abs(math.log(size[0] * size[1] / pixels))

    sizes = [*_list_sizes(capabilities, ratio, pixels)]
    within = [size for size in sizes if size[0] * size[1] <= capabilities.max_pixels]
    return min(within or sizes, key=miss)


def choose_side(side: IntegerRange, length: float) -> int:
    """The allowed length in pixels that is nearest."""
    if side.allowed_values:
        return min(side.allowed_values, key=lambda value: abs(value - length))
    least, most = _limits(side)
    return min(max(round(length / side.multiple_of) * side.multiple_of, least), most)


def reject_distant(ratio: Ratio, width: int, height: int) -> None:
    """Return if the size has about that ratio.

    Raises:
        InvalidRequestError: it has not; names the size, as the nearest that the engine makes.
    """
    if not ratio.is_near(width, height):
        message = (
            f"this engine makes no image of {ratio.text}; the nearest size is {width}x{height}"
        )
        raise InvalidRequestError([Violation("image.aspect_ratio", message)])


def _list_sizes(
    capabilities: ImageCapabilities, ratio: Ratio, pixels: int
) -> Iterable[tuple[int, int]]:
    """Sizes of about that ratio and number of pixels."""
    width, height = capabilities.width, capabilities.height
    ideal = math.sqrt(pixels * ratio.quotient)
    most = min(height.max * ratio.quotient, math.sqrt(capabilities.max_pixels * ratio.quotient))
    widths = _list_near(width, max(min(ideal, most), height.min * ratio.quotient))
    return ((one, choose_side(height, one / ratio.quotient)) for one in widths)


def _list_near(side: IntegerRange, length: float) -> Iterable[int]:
    """The allowed lengths around that one."""
    if side.allowed_values:
        return side.allowed_values
    step, (least, most) = side.multiple_of, _limits(side)
    middle = choose_side(side, length)
    reach = _NEIGHBOURS * step
    return range(max(middle - reach, least), min(middle + reach, most) + 1, step)


def _limits(side: IntegerRange) -> tuple[int, int]:
    """The least and the greatest multiple."""
    step = side.multiple_of
    return -(-side.min // step) * step, side.max // step * step
