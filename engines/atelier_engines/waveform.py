"""Draws previews of audio: the waveform of what there is, as a small image."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import preview_from_pixels

_WIDTH, _HEIGHT = 256, 64
_BACKGROUND = (16, 20, 28)
_FOREGROUND = (120, 190, 255)


def preview_waveform(samples: NDArray[np.float32], share: float) -> Encoded:
    """The peaks of samples in the left part of an image of 256 x 64 pixels, which stands for the whole clip.

    Args:
        samples: (samples, channels), of -1 to 1; none for an empty image.
        share: of the whole clip that they are, 0 to 1.
    """
    columns = min(_WIDTH, math.ceil(_WIDTH * share)) if len(samples) else 0
    peaks = np.zeros(_WIDTH)
    if columns:
        starts = np.arange(columns) * len(samples) // columns
        peaks[:columns] = np.maximum.reduceat(np.abs(samples).max(axis=1), starts)
    rows = np.abs(np.arange(_HEIGHT) - (_HEIGHT - 1) / 2)[:, None]
    drawn = (rows <= peaks * _HEIGHT / 2) & (np.arange(_WIDTH) < columns)
    array = np.where(drawn[:, :, None], _FOREGROUND, _BACKGROUND).astype(np.uint8)
    return preview_from_pixels(Pixels(array=array))
