"""Images and audio, as engines take and return them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """A decoded image."""

    array: NDArray[np.uint8]
    """(height, width, channels), 0 to 255; 1 channel is greyscale, 3 are RGB."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.array.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.array.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Decoded audio."""

    array: NDArray[np.float32]
    """(samples, channels), -1 to 1."""
    sample_rate: int
    """Samples per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An image or audio file, passed on byte for byte."""

    media_type: str
    """Media type, for instance image/png."""
    data: bytes
    """The file's bytes."""
    width: int = 0
    """Width in pixels; 0 for audio."""
    height: int = 0
    """Height in pixels; 0 for audio."""


Media = Pixels | Samples | Encoded
