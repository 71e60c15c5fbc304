"""The one interface that every way of enlarging a picture has."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from atelier_engines.media import Pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class TileDone:
    """One more part of the picture is enlarged."""

    index: int
    """Counts from 1."""
    total: int
    """Parts of the whole picture."""


class Upscaler(Protocol):
    """Enlarges pictures; used by one thread at a time."""

    def tile_count(self, width: int, height: int) -> int:
        """How many parts `enlarge` will tell of, for a picture of that size before enlarging."""

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """Enlarge the picture, yielding after each of its parts; the generator returns the result.

        The result's sides are those that `Upscale.size_of` says, for any `factor` above 1. Blocks
        between two yields; closing the generator ends the work and frees what it held.

        Raises:
            OutOfMemoryError: a tile is too large for the device.
            EngineFailedError: the device or the network failed.
        """
