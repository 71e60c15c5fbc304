"""Draws previews as characters: each is the upper half of a cell, in the colours of two pixels."""

from __future__ import annotations

from rich.color import Color
from rich.style import Style
from rich.text import Text

from atelier_client.errors import MissingPackageError
from atelier_client.pixels import open_image
from atelier_client.results import Preview

_UPPER_HALF = "▀"


def render_half_blocks(preview: Preview, *, columns: int, rows: int) -> Text | None:
    """The preview in at most so many columns and rows; None if Pillow is not installed or cannot decode it."""
    try:
        image = open_image(preview.data).convert("RGB")
    except (MissingPackageError, OSError):
        return None
    scale = min(columns / image.width, 2 * rows / image.height)
    image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    lines = [
        Text.assemble(
            *(
                (
                    _UPPER_HALF,
                    _style(
                        image.getpixel((x, y)), image.getpixel((x, min(y + 1, image.height - 1)))
                    ),
                )
                for x in range(image.width)
            )
        )
        for y in range(0, image.height, 2)
    ]
    return Text("\n").join(lines)


def _style(upper: object, lower: object) -> Style:
    """The colours of two pixels, of which each is red, green and blue."""
    return Style(color=_color(upper), bgcolor=_color(lower))


def _color(pixel: object) -> Color:
    if not isinstance(pixel, tuple):
        raise TypeError(f"an RGB pixel was expected, not {pixel!r}")
    return Color.from_rgb(*pixel)
