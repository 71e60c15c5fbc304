"""The seam between audio that is given and what an engine makes after it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float32]


def begin_with(audio: _Floats, made: _Floats, *, seam: int, fade: int) -> None:
    """Replace the beginning of `made` by the audio, in place; both (samples, channels).

    Args:
        audio: at least `seam` samples.
        made: where it is to go on.
        seam: sample from which on it is what was made.
        fade: samples before the seam over which one becomes the other, with equal gain: what was made is meant to be
            the same there.
    """
    start = seam - fade
    made[:start] = audio[:start]
    share = ((np.arange(fade, dtype=np.float32) + 1) / (fade + 1))[:, np.newaxis]
    made[start:seam] = audio[start:seam] * (1 - share) + made[start:seam] * share
