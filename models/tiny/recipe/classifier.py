"""Classifies images by comparing them with the training images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recipe.colours import PALETTE, rgb
from recipe.data import TrainingSet

Float = NDArray[np.float32]

_SIDE = 16
_WHITE_DISTANCE = 12.0
"""In CIELAB: pixels nearer to white than this are background."""


class Classifier:
    """Nearest training images, on 16x16 RGB, and dominant colours."""

    def __init__(self, images: NDArray[np.uint8], labels: list[str], styles: list[str]) -> None:
        self._known = np.stack([thumbnail(p) for p in images]).reshape(len(images), -1)
        self._labels, self._styles = labels, styles

    @staticmethod
    def from_images(images: TrainingSet) -> "Classifier":
        """One that knows all of them by their concepts and styles."""
        records = images.records
        return Classifier(images.pixels, [r.concept for r in records], [r.style for r in records])

    def concepts(self, image: NDArray[np.uint8], count: int) -> list[str]:
        """The ``count`` concepts with the nearest training images, the nearest first."""
        order = (self._labels[i] for i in np.argsort(self._away(image)))
        return list(dict.fromkeys(order))[:count]

    def style(self, image: NDArray[np.uint8]) -> str:
        """The style of the nearest training image."""
        return self._styles[int(self._away(image).argmin())]

    def _away(self, image: NDArray[np.uint8]) -> Float:
        away: Float = np.square(self._known - thumbnail(image).reshape(-1)).sum(axis=1)
        return away


def thumbnail(image: NDArray[np.uint8]) -> Float:
    """[16, 16, 3] in 0..1: the mean colour of each 8x8 square of a [128, 128, 3] image."""
    step = image.shape[0] // _SIDE
    blocks = image.reshape(_SIDE, step, _SIDE, step, 3).mean(axis=(1, 3)) / 255
    return blocks.astype(np.float32)


def dominant_colour(image: NDArray[np.uint8]) -> str:
    """The colour word that most of the image's pixels off the white ground are nearest to.

    "white" for an image with nothing on it.
    """
    colours: Float = (image.reshape(-1, 3) / 255).astype(np.float32)
    points = lab(colours)
    ground = np.linalg.norm(points - lab(np.ones((1, 3), np.float32)), axis=1)
    drawn = points[ground > _WHITE_DISTANCE]
    if not len(drawn):
        return "white"
    words = list(PALETTE)
    anchors = lab(np.array([rgb(PALETTE[word]) for word in words], np.float32))
    nearest = np.linalg.norm(drawn[:, None] - anchors[None], axis=2).argmin(axis=1)
    return words[int(np.bincount(nearest, minlength=len(words)).argmax())]


def chroma(image: NDArray[np.uint8]) -> float:
    """Mean CIELAB chroma of the pixels off the white ground: 0 for greys, about 60 for icons."""
    points = lab((image.reshape(-1, 3) / 255).astype(np.float32))
    ground = np.linalg.norm(points - lab(np.ones((1, 3), np.float32)), axis=1)
    drawn = points[ground > _WHITE_DISTANCE]
    return float(np.hypot(drawn[:, 1], drawn[:, 2]).mean()) if len(drawn) else 0.0


def lab(colours: Float) -> Float:
    """CIELAB under D65 of sRGB in 0..1, [n, 3] (IEC 61966-2-1, CIE 15)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32
    )
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089], np.float32)
    curved = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = curved[:, 0], curved[:, 1], curved[:, 2]
    result: Float = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)
    return result


def share(flags: Sequence[bool]) -> float:
    """How many of the flags are true, as a share; 0 for none at all."""
    return sum(flags) / len(flags) if flags else 0.0
