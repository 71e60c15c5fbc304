"""Stitches upscaled tiles without a seam, and returns rows of the image as soon as they are finished."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atelier_engines.upscaling.tiles import Span, blend_weights


class TileStitcher:
    """An image under construction, of which only the unfinished rows are in memory."""

    def __init__(
        self, columns: tuple[Span, ...], rows: tuple[Span, ...], *, overlap: int, scale: int
    ) -> None:
        """Expect tiles at the product of `columns` and `rows`, each upscaled by `scale`."""
        self._columns, self._rows, self._scale = columns, rows, scale
        self._across = blend_weights(columns, overlap=overlap, scale=scale)
        self._down = blend_weights(rows, overlap=overlap, scale=scale)
        self._first = 0
        """The row of the image at which `_held` begins."""
        self._held = np.zeros((0, columns[-1].stop * scale, 3), np.float32)

    def add(self, row: int, column: int, tile: NDArray[np.float32]) -> None:
        """Blend in an upscaled tile, (height, width, 3) of 0 to 1. Rows of tiles come in order."""
        low, high = self._rows[row].start * self._scale, self._rows[row].stop * self._scale
        self._extend(high)
        left = self._columns[column].start * self._scale
        weight = self._down[row][:, None, None] * self._across[column][None, :, None]
        place = self._held[low - self._first : high - self._first, left : left + tile.shape[1]]
        place += tile * weight

    def take_finished(self, row: int) -> NDArray[np.uint8]:
        """Remove and return the rows of pixels that no later tile changes, once all tiles of `row` were added."""
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
