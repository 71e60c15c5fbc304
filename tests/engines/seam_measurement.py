"""Measures the seam between two parts of a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_largest_jump(wave: NDArray[np.float32], start: int, stop: int) -> tuple[float, float]:
    """The largest difference of two neighbouring samples from `start` to `stop` and at both ends, and elsewhere."""
    jumps = np.abs(np.diff(wave, axis=0)).max(axis=1)
    inside = np.zeros(len(jumps), bool)
    inside[max(0, start - 1) : stop + 1] = True
    return float(jumps[inside].max()), float(jumps[~inside].max())
