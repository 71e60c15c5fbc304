"""Which pictures fit into what is left of a device's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atelier_engines.diffusion.capabilities import GRID, MIN_SIDE
from atelier_engines.diffusion.memory.footprint import Footprint
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices

_LARGEST_STEP = 0.75
"""Of the pixels of what has just failed: an estimate above that is not to be believed."""


_UNSEEN = 3
"""What is recommended on a CPU is to fit this many times: for convolutions oneDNN copies what goes
in and out into blocks of 8 or 16 channels, which the estimate does not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What the size of the work depends on."""

    width: int
    """Pixels."""
    height: int
    """Pixels."""
    rows: int
    """Of the denoiser's run: two with guidance, else one."""
    tiled: bool = False
    """Whether it is decoded in tiles, which takes no more for larger pictures."""

    def __str__(self) -> str:
        return f"a picture of {self.width} x {self.height} pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """Estimates for one model on one device."""

    footprint: Footprint
    """What its work takes."""
    cell_pixels: int
    """Pixels along the side of a latent cell."""
    max_side: int
    """Most pixels along a side, whatever fits."""
    max_pixels: int
    """Most pixels, whatever fits."""

    def check(self, size: Size) -> None:
        """Return if a picture may fit; on CUDA it is always tried, since a failure does no harm.

        On a CPU it does: the system gives more memory than it has, and ends the process later.

        Raises:
            OutOfMemoryError: it takes more than there is; the text says what and how much.
        """
        device = self.footprint.device
        if device.type != "cpu":
            return
        needed, there = self.needed(size), devices.available(device)
        if needed > there:
            raise OutOfMemoryError(
                f"{size} does not fit into the memory of {device}: it needs about {needed} "
                f"bytes, and {there} are available; {self.advice(size)}"
            )

    def needed(self, size: Size) -> int:
        """Bytes, about; 0 while nothing is known."""
        cells = self._cells(size.width * size.height)
        decoding = 0 if size.tiled else self.footprint.bytes("decode", cells)
        return max(self.footprint.bytes("denoise", cells * size.rows), decoding)

    def advice(self, size: Size, *, failed: bool = False) -> str:
        """What to ask for instead of a picture that does not fit.

        Args:
            size: of what does not fit.
            failed: whether it was tried, so that the estimate has to give way.
        """
        found = self.largest(size, failed=failed)
        if found is None:
            return "no picture fits beside what else is in it"
        return f"the largest picture that fits is {found[0]} x {found[1]}"

    def largest(self, size: Size, *, failed: bool = False) -> tuple[int, int] | None:
        """Width and height of the largest picture of the same proportions that fits, in pixels.

        None if not even the smallest does. While nothing is known, it is smaller than `size`.
        """
        device = self.footprint.device
        room = devices.available(device) // (_UNSEEN if device.type == "cpu" else 1)
        denoising = self.footprint.cells("denoise", room)
        decoding = None if size.tiled else self.footprint.cells("decode", room)
        pixels = float(self.max_pixels)
        if denoising is not None:
            pixels = min(pixels, denoising // size.rows * self.cell_pixels**2)
        if decoding is not None:
            pixels = min(pixels, decoding * self.cell_pixels**2)
        if failed or denoising is None:
            pixels = min(pixels, _LARGEST_STEP * size.width * size.height)
        return self._sized(size, pixels)

    def _sized(self, size: Size, pixels: float) -> tuple[int, int] | None:
        """At most so many pixels, in the same proportions as far as no side becomes too short."""
        shrink = min(
            math.sqrt(pixels / (size.width * size.height)),
            self.max_side / max(size.width, size.height),
        )
        width, height = (
            max(MIN_SIDE, int(side * shrink) // GRID * GRID) for side in (size.width, size.height)
        )
        longest = int(pixels / min(width, height)) // GRID * GRID
        if longest < MIN_SIDE:
            return None
        return (min(width, longest), height) if width > height else (width, min(height, longest))

    def _cells(self, pixels: int) -> int:
        return math.ceil(pixels / self.cell_pixels**2)
