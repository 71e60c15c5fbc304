"""The colours of drawn images: any, or those that are configured."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from PIL import ImageColor

RGB = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours to choose from; all if there are none."""

    colors: tuple[RGB, ...] = ()

    @classmethod
    def of(cls, colors: Sequence[str]) -> Self:
        """The palette of colours in the form `#rrggbb`."""
        return cls(tuple(ImageColor.getcolor(color, "RGB")[:3] for color in colors))  # type: ignore[index,misc]  # RGB has three

    def pick(self, hue: float, lightness: float, saturation: float) -> RGB:
        """The colour for a hue, of which the fraction counts; configured ones ignore the others, from 0 to 1."""
        if self.colors:
            return self.colors[int(hue % 1.0 * len(self.colors)) % len(self.colors)]
        red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
        return round(red * 255), round(green * 255), round(blue * 255)


ANY_COLOR = Palette()
"""The palette without a choice."""
