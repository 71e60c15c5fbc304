"""Lays an inpainted part over its image: what is marked is replaced, what is farther away is kept to the byte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MARKED = 128
"""Level from which on a pixel of a mask is marked, as in diffusers."""
FEATHER = 8
"""Pixels around what is marked in which the image and its inpainted part are mixed."""

_RADIUS = FEATHER // 2


def feather(marked: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The share of the inpainted part in each pixel: 1 where it is marked, falling to 0 over the feather.

    The marks are widened by half of the feather, and then averaged over as much.
    """
    near = _sum_around(marked) > 0
    inside = _sum_around(np.ones_like(marked))
    share: NDArray[np.float32] = (_sum_around(near) / inside).astype(np.float32)
    return share


def composite(
    kept: NDArray[np.uint8], inpainted: NDArray[np.uint8], share: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """(height, width, 3): the inpainted image where its share, (height, width, 1), is 1, and `kept` where it is 0."""
    mixed = kept + share * (inpainted.astype(np.float32) - kept)
    result: NDArray[np.uint8] = mixed.round().astype(np.uint8)
    return result


def _sum_around(values: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How many are true in the square of each pixel, which is cut off at the edges."""
    side = 2 * _RADIUS + 1
    sums = values.astype(np.int32)
    for axis in (0, 1):
        around = [(0, 0), (0, 0)]
        around[axis] = (_RADIUS + 1, _RADIUS)
        running = np.cumsum(np.pad(sums, around), axis=axis, dtype=np.int32)
        ends = np.take(running, range(side, running.shape[axis]), axis=axis)
        starts = np.take(running, range(running.shape[axis] - side), axis=axis)
        sums = ends - starts
    return sums
