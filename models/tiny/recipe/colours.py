"""The ten colour words, and how a drawing's fills take one of them."""

import colorsys
import re
from collections.abc import Sequence

PALETTE = {
    "red": "f8312f",
    "orange": "ff822d",
    "yellow": "fcd53f",
    "green": "00b85c",
    "blue": "1c7cff",
    "purple": "8d4fd0",
    "pink": "ff7fcb",
    "brown": "7d4533",
    "black": "262626",
    "grey": "9b9b9b",
}
"""Colour word to sRGB hex: Fluent's own hues, moved apart where two came close."""

_FILL = re.compile(r'(fill|stop-color)="#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})"')


def rgb(hexadecimal: str) -> tuple[float, float, float]:
    """Three channels in 0..1 of ``rrggbb`` or ``rgb``."""
    digits = hexadecimal if len(hexadecimal) == 6 else "".join(c * 2 for c in hexadecimal)
    red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


def repaint(svg: str, fills: Sequence[str], colour: str) -> str:
    """The drawing with ``fills`` changed to ``colour``.

    ``fills[0]`` becomes the colour itself; the others keep their distance in lightness to it, so
    that shadows and highlights stay.
    """
    shades = {fill: _shade(fill, fills[0], PALETTE[colour]) for fill in fills}

    def swap(match: re.Match[str]) -> str:
        attribute, fill = match.group(1), match.group(2).lower()
        return f'{attribute}="#{shades.get(fill, fill)}"'

    return _FILL.sub(swap, svg)


def _shade(fill: str, main: str, target: str) -> str:
    offset = colorsys.rgb_to_hls(*rgb(fill))[1] - colorsys.rgb_to_hls(*rgb(main))[1]
    hue, light, saturation = colorsys.rgb_to_hls(*rgb(target))
    channels = colorsys.hls_to_rgb(hue, min(max(light + offset, 0.06), 0.94), saturation)
    return "".join(f"{round(channel * 255):02x}" for channel in channels)
