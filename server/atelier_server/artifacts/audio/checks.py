"""Refuses samples that are not audio: not finite, silent, clipped, or too few."""

from __future__ import annotations

import numpy as np

from atelier_engines.errors import EngineFailedError
from atelier_server.artifacts.audio.blocks import Floats, iterate_blocks

_SILENT_PEAK = 1e-4
"""-80 dB relative to full scale."""
_RAIL = 0.999
_RUN = 4
"""So many equal samples at full scale in a row are clipped; a loud tone has fewer."""
_MAX_CLIPPED = 0.01
_MAX_MISSING_SECONDS = 0.1


def check_samples(array: Floats) -> None:
    """Return if it is audio.

    Raises:
        EngineFailedError: a sample is NaN or infinite, all are silent, or more than a hundredth is clipped.
    """
    peak, clipped = 0.0, 0
    for block in iterate_blocks(array):
        highest = float(np.abs(block).max())
        if not np.isfinite(highest):
            raise EngineFailedError("the engine made audio with samples that are no numbers")
        peak = max(peak, highest)
        clipped += _count_clipped(block) if highest >= _RAIL else 0
    if peak < _SILENT_PEAK:
        raise EngineFailedError("the engine made silence: no sample is above -80 dB")
    if clipped > _MAX_CLIPPED * array.size:
        share = 100 * clipped / array.size
        raise EngineFailedError(f"the engine made clipped audio: {share:.0f} % is at full scale")


def is_clipped(array: Floats) -> bool:
    """Whether it is so clipped that `check_samples` would refuse it."""
    counts = (_count_clipped(block) for block in iterate_blocks(array))
    return sum(counts) > _MAX_CLIPPED * array.size


def check_length(length: int, expected: int, sample_rate: int) -> None:
    """Return if the audio is long enough, or so nearly that silence may be added.

    Raises:
        EngineFailedError: more than a tenth of a second is missing.
    """
    if expected - length > _MAX_MISSING_SECONDS * sample_rate:
        seconds, asked = length / sample_rate, expected / sample_rate
        raise EngineFailedError(
            f"the engine made {seconds:.4g} seconds of audio instead of {asked:.4g}"
        )


def _count_clipped(block: Floats) -> int:
    """Samples that begin a run of one value at full scale."""
    windows = len(block) - _RUN + 1
    if windows < 1:
        return 0
    first = block[:windows]
    held = np.abs(first) >= _RAIL
    for at in range(1, _RUN):
        held &= block[at : at + windows] == first
    return int(held.sum())
