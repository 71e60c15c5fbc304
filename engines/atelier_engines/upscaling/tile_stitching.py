"""Joins enlarged tiles without a seam, and gives out rows of the picture as soon as they are done."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atelier_engines.upscaling.tiles import Span, blend_weights


class TileStitcher:
    """A picture to be, of which only the rows that are still in work are held."""

    def __init__(
        self, columns: tuple[Span, ...], rows: tuple[Span, ...], *, overlap: int, scale: int
    ) -> None:
        """For tiles at the product of `columns` and `rows`, each to be enlarged by `scale`."""
        self._columns, self._rows, self._scale = columns, rows, scale
        self._across = blend_weights(columns, overlap=overlap, scale=scale)
        self._down = blend_weights(rows, overlap=overlap, scale=scale)
        self._first = 0
        """The picture's row that `_held` begins with."""
        self._held = np.zeros((0, columns[-1].stop * scale, 3), np.float32)

    def add(self, row: int, column: int, tile: NDArray[np.float32]) -> None:
        """Put in the enlarged tile, (height, width, 3) of 0 to 1. Rows of tiles come in order."""
        low, high = self._rows[row].start * self._scale, self._rows[row].stop * self._scale
        self._extend(high)
        left = self._columns[column].start * self._scale
        share = self._down[row][:, None, None] * self._across[column][None, :, None]
        place = self._held[low - self._first : high - self._first, left : left + tile.shape[1]]
        place += tile * share

    def take_finished(self, row: int) -> NDArray[np.uint8]:
        """The rows of pixels that no later tile touches, once all tiles of `row` are in; each once."""
        last = row == len(self._rows) - 1
        until = (self._rows[row].stop if last else self._rows[row + 1].start) * self._scale
        done, self._held = np.split(self._held, [until - self._first])
        self._first = until
        return np.rint(done.clip(0.0, 1.0) * 255.0).astype(np.uint8)

    def _extend(self, until: int) -> None:
        missing = until - self._first - len(self._held)
        if missing > 0:
            empty = np.zeros((missing, *self._held.shape[1:]), np.float32)
            self._held = np.concatenate((self._held, empty))
