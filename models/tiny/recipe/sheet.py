"""The contact sheet: what the weights draw, each image over its prompt."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from recipe.colours import PALETTE

_COLUMNS, _SIDE, _LABEL = 15, 96, 13
_PAINTED = ("heart", "apple", "ball", "car", "fish", "umbrella")


def painted() -> list[str]:
    """Some things in all colours."""
    return [f"a {colour} {name}" for name in _PAINTED for colour in PALETTE]


def write(path: Path, said: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> None:
    """One PNG with few enough colours to stay small."""
    rows = -(-len(said) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * _SIDE, rows * (_SIDE + _LABEL)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for index, (words, image) in enumerate(zip(said, images, strict=True)):
        left, top = index % _COLUMNS * _SIDE, index // _COLUMNS * (_SIDE + _LABEL)
        small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        page.paste(small, (left, top))
        pen.text((left + 4, top + _SIDE), words[:18], "black", font)
    page.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def write_rows(path: Path, rows: Sequence[tuple[str, Sequence[NDArray[np.uint8]]]]) -> None:
    """One PNG of a label over each row of images."""
    columns = max(len(images) for _, images in rows)
    page = Image.new("RGB", (columns * _SIDE, len(rows) * (_SIDE + _LABEL)), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for row, (words, images) in enumerate(rows):
        top = row * (_SIDE + _LABEL)
        pen.text((4, top), words, "black", font)
        for column, image in enumerate(images):
            small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            page.paste(small, (column * _SIDE, top + _LABEL))
    page.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
