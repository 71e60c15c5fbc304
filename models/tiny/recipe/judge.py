"""Says what a picture shows, by comparing it with the training pictures."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recipe.colours import PALETTE, rgb
from recipe.data import Pictures

Float = NDArray[np.float32]

_SIDE = 16
_WHITE_DISTANCE = 12.0
"""In CIELAB: pixels nearer to white than this are background."""


class Judge:
    """Nearest training pictures, on 16x16 RGB, and dominant colours."""

    def __init__(self, pictures: NDArray[np.uint8], labels: list[str], styles: list[str]) -> None:
        self._known = np.stack([thumbnail(p) for p in pictures]).reshape(len(pictures), -1)
        self._labels, self._styles = labels, styles

    @staticmethod
    def of(pictures: Pictures) -> "Judge":
        """One that knows all of them by their concepts and styles."""
        records = pictures.records
        return Judge(pictures.pixels, [r.concept for r in records], [r.style for r in records])

    def concepts(self, picture: NDArray[np.uint8], count: int) -> list[str]:
        """The ``count`` concepts with the nearest training pictures, the nearest first."""
        order = (self._labels[i] for i in np.argsort(self._away(picture)))
        return list(dict.fromkeys(order))[:count]

    def style(self, picture: NDArray[np.uint8]) -> str:
        """The style of the nearest training picture."""
        return self._styles[int(self._away(picture).argmin())]

    def _away(self, picture: NDArray[np.uint8]) -> Float:
        away: Float = np.square(self._known - thumbnail(picture).reshape(-1)).sum(axis=1)
        return away


def thumbnail(picture: NDArray[np.uint8]) -> Float:
    """[16, 16, 3] in 0..1: the mean colour of each 8x8 square of a [128, 128, 3] picture."""
    step = picture.shape[0] // _SIDE
    blocks = picture.reshape(_SIDE, step, _SIDE, step, 3).mean(axis=(1, 3)) / 255
    return blocks.astype(np.float32)


def dominant_colour(picture: NDArray[np.uint8]) -> str:
    """The colour word that most of the picture's pixels off the white ground are nearest to.

    "white" for a picture with nothing on it.
    """
    colours: Float = (picture.reshape(-1, 3) / 255).astype(np.float32)
    points = lab(colours)
    ground = np.linalg.norm(points - lab(np.ones((1, 3), np.float32)), axis=1)
    drawn = points[ground > _WHITE_DISTANCE]
    if not len(drawn):
        return "white"
    words = list(PALETTE)
    anchors = lab(np.array([rgb(PALETTE[word]) for word in words], np.float32))
    nearest = np.linalg.norm(drawn[:, None] - anchors[None], axis=2).argmin(axis=1)
    return words[int(np.bincount(nearest, minlength=len(words)).argmax())]


def chroma(picture: NDArray[np.uint8]) -> float:
    """Mean CIELAB chroma of the pixels off the white ground: 0 for greys, about 60 for icons."""
    points = lab((picture.reshape(-1, 3) / 255).astype(np.float32))
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
