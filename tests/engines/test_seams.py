"""The seam of a continuation: no click where given audio becomes what was made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atelier_engines.seams import begin_with
from tests.engines.seam_measurement import find_largest_jump

SEAM, FADE = 3000, 2048


def tone(phase: float) -> NDArray[np.float32]:
    """A low tone, (samples, channels), whose neighbours differ by little."""
    wave = 0.5 * np.sin(2 * np.pi * 110 * np.arange(6000) / 44100 + phase)
    return np.stack([wave, wave], axis=1).astype(np.float32)


def test_one_tone_becomes_the_other_without_a_click() -> None:
    """Before the seam's fade it is the given one, after the seam the other."""
    given, made = tone(0.0), tone(2.0)
    joined = made.copy()
    begin_with(given[:SEAM], joined, seam=SEAM, fade=FADE)
    assert np.array_equal(joined[: SEAM - FADE], given[: SEAM - FADE])
    assert np.array_equal(joined[SEAM:], made[SEAM:])
    at_seam, elsewhere = find_largest_jump(joined, SEAM - FADE, SEAM)
    assert at_seam <= 1.1 * elsewhere
