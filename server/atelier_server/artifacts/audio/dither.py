"""Makes 16 bits of samples, with dither where that loses anything.

Source: Lipshitz, Wannamaker, Vanderkooy, Quantization and Dither: A Theoretical Survey, JAES 40 (1992): with noise of
triangular distribution, two steps wide, mean and power of the error do not depend on the signal.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from atelier_server.artifacts.audio.blocks import Floats, iterate_blocks

_FULL_SCALE = 2**15


def quantize_blocks(array: Floats) -> Iterator[NDArray[np.int16]]:
    """The samples in 16 bits, block by block; equal samples give equal ones.

    Samples that 16 bits hold exactly stay as they are, and so does silence between others.
    """
    needs_dither = any(_loses(block) for block in iterate_blocks(array))
    random = np.random.default_rng(zlib.crc32(np.ascontiguousarray(array).data.cast("B")))
    for block in iterate_blocks(array):
        scaled = block * np.float32(_FULL_SCALE)
        if needs_dither:
            first, second = (random.random(block.shape, np.float32) for _ in range(2))
            scaled += np.where(block == 0, np.float32(0), first - second)
        yield np.clip(np.rint(scaled), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)


def _loses(block: Floats) -> bool:
    """Whether 16 bits do not hold all of the samples; full scale itself is one step too much, and counts as held."""
    scaled = block * np.float32(_FULL_SCALE)
    return bool((scaled != np.rint(scaled)).any())
