"""Works through samples in blocks, so that what is computed beside them stays small."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

BLOCK_SAMPLES = 2**16
"""No more at once: libsndfile's Vorbis encoder puts those of one call on its stack."""
Floats = NDArray[np.float32]
"""(samples, channels)."""


def iterate_blocks(array: Floats) -> Iterator[Floats]:
    """Views of the samples, one after the other."""
    for start in range(0, len(array), BLOCK_SAMPLES):
        yield array[start : start + BLOCK_SAMPLES]


def resample_blocks(array: Floats, rate: int, target: int) -> Iterator[Floats]:
    """The samples at another rate, round(n * target / rate) of n in all; the quality is soxr's highest."""
    stream = soxr.ResampleStream(rate, target, array.shape[1], dtype="float32", quality="VHQ")
    for start in range(0, len(array), BLOCK_SAMPLES):
        block = np.ascontiguousarray(array[start : start + BLOCK_SAMPLES])
        yield stream.resample_chunk(block, last=start + BLOCK_SAMPLES >= len(array))
