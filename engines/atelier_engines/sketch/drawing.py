"""Draws an abstract image that depends on seed and prompt: a soft gradient with shapes on it."""

from __future__ import annotations

import colorsys
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_GRID = 4
"""Colours along each side of the gradient."""
_VIVID_GUIDANCE = 10.0
"""Guidance from which colours are fully saturated."""
_RGB = tuple[int, int, int]


def random_generator(seed: int, *words: str) -> np.random.Generator:
    """A random generator that depends on the seed and all words, the same on every machine."""
    hashes = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in words]
    return np.random.default_rng([seed, *hashes])


def draw_image(size: tuple[int, int], random: np.random.Generator, guidance: float) -> Image.Image:
    """Draw an RGB image of `size` (width, height); more `guidance` gives stronger colours."""
    hue = random.random()
    vividness = 0.25 + 0.6 * min(guidance / _VIVID_GUIDANCE, 1.0)
    image = _gradient(size, hue, vividness, random)
    for _ in range(int(random.integers(3, 6))):
        _add_shape(image, hue, vividness, random)
    return image


def _gradient(
    size: tuple[int, int], hue: float, vividness: float, random: np.random.Generator
) -> Image.Image:
    colours: NDArray[np.uint8] = np.zeros((_GRID, _GRID, 3), np.uint8)
    for row in range(_GRID):
        for column in range(_GRID):
            near = hue + random.uniform(-0.1, 0.1)
            lightness = 0.75 - 0.4 * row / (_GRID - 1) + random.uniform(-0.08, 0.08)
            colours[row, column] = _rgb(near, lightness, vividness)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def _add_shape(
    image: Image.Image, hue: float, vividness: float, random: np.random.Generator
) -> None:
    """Draw one translucent disc or rounded block, at twice the size to soften its edge."""
    side = max(2, round(min(image.size) * random.uniform(0.15, 0.5)))
    mask = Image.new("L", (2 * side, 2 * side))
    pen = ImageDraw.Draw(mask)
    box = (0, 0, 2 * side - 1, 2 * side - 1)
    opacity = int(random.integers(110, 200))
    if random.random() < 0.7:  # noqa: PLR2004 (most shapes are round)
        pen.ellipse(box, fill=opacity)
    else:
        pen.rounded_rectangle(box, radius=side // 2, fill=opacity)
    across = hue + float(random.choice((0.08, 0.42, 0.5, 0.58)))
    colour = _rgb(across, random.uniform(0.45, 0.8), vividness)
    left = round(random.uniform(0, image.width) - side / 2)
    top = round(random.uniform(0, image.height * 0.7) - side / 2)
    image.paste(colour, (left, top), mask.reduce(2))


def _rgb(hue: float, lightness: float, saturation: float) -> _RGB:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)
