"""Pictures and sounds as engines take and give them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """A decoded picture."""

    array: NDArray[np.uint8]
    """(height, width, channels), 0 dark to 255 bright; 1 channel is grey, 3 are RGB."""

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
    """A decoded sound."""

    array: NDArray[np.float32]
    """(samples, channels), -1 to 1."""
    sample_rate: int
    """Samples a second, in hertz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A picture or sound in a file format, passed on byte for byte."""

    media_type: str
    """For instance image/png."""
    data: bytes
    """The file's bytes."""
    width: int = 0
    """Width in pixels; 0 for sounds."""
    height: int = 0
    """Height in pixels; 0 for sounds."""


Media = Pixels | Samples | Encoded
