"""Puts audio that a task begins with into what was made, or before it."""

from __future__ import annotations

import math

import numpy as np

from atelier_engines.media import Samples
from atelier_engines.seams import begin_with
from atelier_engines.sketch.audio.layers import Floats

_EDGE_SECONDS = 0.02
_SEAM_SECONDS = 0.05


def mix_in(made: Floats, audio: Samples, strength: float, *, loops: bool) -> None:
    """Mix the audio into what was made, in place and with equal power: of strength 0 it is the audio alone; blocks.

    All is lowered if the sum is above full scale. With `loops`, the audio fades in and out, so that the result loops.
    """
    angle = strength * math.pi / 2
    made *= np.float32(math.sin(angle))
    added = audio.array[: len(made)] * np.float32(math.cos(angle))
    if loops:
        _fade_edges(added, round(_EDGE_SECONDS * audio.sample_rate))
    made[: len(added)] += added
    peak = max(float(made.max()), -float(made.min()))
    if peak > 1.0:
        made /= np.float32(peak)
        np.clip(made, -1.0, 1.0, out=made)


def continue_audio(made: Floats, audio: Samples) -> None:
    """Replace the beginning of what was made by the audio, in place: the end of one becomes the other; blocks."""
    seam = len(audio.array)
    begin_with(audio.array, made, seam=seam, fade=round(_SEAM_SECONDS * audio.sample_rate))


def _fade_edges(array: Floats, count: int) -> None:
    count = min(count, len(array) // 2)
    rise = (np.arange(count, dtype=np.float32) / max(count, 1))[:, None]
    array[:count] *= rise
    array[len(array) - count :] *= rise[::-1]
