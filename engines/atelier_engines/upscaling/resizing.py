"""Resizes an image that arrives a few rows at a time, so that its full size is never in memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_REACH = 3
"""Radius of the Lanczos filter in pixels, of the larger of both grids."""


class RowResizer:
    """The Lanczos filter over rows in order; the result does not depend on how many arrive at a time.

    It filters horizontally first and vertically afterwards, for which a few rows suffice; Pillow chooses the
    order that is less work, and rounds between the two.

    Source: Pillow 13, src/libImaging/Resample.c: outside of `box`, pixels count up to the filter's
    reach, and at the edges of the image the filter is cut off.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        """Resize from the size `source` to the size `target`, both (width, height)."""
        self._source, self._target = source, target
        self._ratio = source[1] / target[1]
        self._reach = math.ceil(_REACH * max(1.0, self._ratio)) + 1
        self._held = np.zeros((0, target[0], 3), np.uint8)
        self._first = 0
        """The source row at which `_held` begins; its rows have the target's width."""
        self._done = 0
        self._result = np.empty((target[1], target[0], 3), np.uint8)

    def add(self, rows: NDArray[np.uint8]) -> None:
        """Add the next rows of the source, (height, width, 3)."""
        across = _resize_rows(
            rows, (self._target[0], len(rows)), (0, 0, self._source[0], len(rows))
        )
        self._held = np.concatenate((self._held, across))
        known = self._first + len(self._held)
        whole = known == self._source[1]
        until = self._target[1] if whole else math.floor((known - self._reach) / self._ratio)
        if until > self._done:
            self._resize(until)

    def result(self) -> NDArray[np.uint8]:
        """The resized image, once all rows were added."""
        return self._result

    def _resize(self, until: int) -> None:
        """Compute the target rows up to `until`, and drop the source rows that no later row needs."""
        low, high = self._done * self._ratio - self._first, until * self._ratio - self._first
        box = (0, low, self._target[0], min(high, len(self._held)))
        band = _resize_rows(self._held, (self._target[0], until - self._done), box)
        self._result[self._done : until] = band
        self._done = until
        needed = max(0, math.floor(until * self._ratio) - self._reach)
        if needed > self._first:
            self._held = self._held[needed - self._first :].copy()
            self._first = needed


def _resize_rows(
    rows: NDArray[np.uint8], size: tuple[int, int], box: tuple[float, float, float, float]
) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(rows).resize(size, Image.Resampling.LANCZOS, box))
