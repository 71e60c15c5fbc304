"""The interface of every upscaler."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from atelier_engines.media import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class TileDone:
    """One more tile of the image is upscaled."""

    index: int
    """Number of the tile, from 1."""
    total: int
    """Number of tiles of the whole image."""


class Upscaler(Protocol):
    """Upscales images. For one thread at a time."""

    def tile_count(self, width: int, height: int) -> int:
        """Number of tiles for an image of that size before upscaling."""

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """Upscale the image, yielding after each tile; the generator returns the result.

        The result has the size of `Upscale.size_of`, for any `factor` above 1. Blocks between two yields; closing
        the generator stops the work and frees its memory.

        Raises:
            OutOfMemoryError: a tile is too large for the device.
            EngineFailedError: the device or the network failed.
        """
