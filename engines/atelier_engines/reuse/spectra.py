"""How alike two clips are, as far as that is seen in their spectra."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atelier_engines.media import Samples

_BANDS = 32
_LOWEST_HERTZ = 40.0
_FRAME = 4096
_SLICES = 8
"""Parts of a clip, in time, whose spectra are compared."""
_QUIETEST = 1e-8


def describe(media: Samples) -> NDArray[np.float32]:
    """The level of 32 bands, a constant number of octaves each, in 8 parts of the clip; of length 1, mean 0."""
    mono = media.array.mean(axis=1, dtype=np.float32)
    edges = np.geomspace(_LOWEST_HERTZ, media.sample_rate / 2, _BANDS + 1)
    levels = [_levels(part, edges, media.sample_rate) for part in np.array_split(mono, _SLICES)]
    found = np.concatenate(levels).astype(np.float32)
    found -= found.mean()
    length = float(np.linalg.norm(found))
    return found / length if length else found


def choose_most_alike(spectra: Sequence[NDArray[np.float32]]) -> int:
    """The earlier of the two that are most alike; of at least two."""
    whole = np.stack(spectra)
    likeness = whole @ whole.T
    np.fill_diagonal(likeness, -np.inf)
    first, second = np.unravel_index(int(np.argmax(likeness)), likeness.shape)
    return int(min(first, second))


def _levels(
    part: NDArray[np.float32], edges: NDArray[np.float64], rate: int
) -> NDArray[np.float64]:
    """Decibels of each band, of at most so many frames of the part that it stays cheap."""
    frames = [part[start : start + _FRAME] for start in range(0, max(1, len(part)), _FRAME)]
    power = np.zeros(_FRAME // 2 + 1)
    for frame in frames:
        power += np.abs(np.fft.rfft(frame * np.hanning(len(frame)), _FRAME)) ** 2
    bands = np.searchsorted(np.fft.rfftfreq(_FRAME, 1 / rate), edges)
    sums = np.concatenate(([0.0], np.cumsum(power / len(frames))))
    width = np.maximum(1, bands[1:] - bands[:-1])
    means = (sums[bands[1:]] - sums[bands[:-1]]) / width
    return np.asarray(10 * np.log10(means + _QUIETEST), np.float64)
