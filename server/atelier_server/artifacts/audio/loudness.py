"""Measures loudness and true peak block by block. Source: ITU-R BS.1770-5, annexes 1 and 2.

pyloudnorm, with which the tests compare, holds several copies of the whole audio instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_server.artifacts.audio.blocks import Floats, iterate_blocks, resample_blocks

_OFFSET = -0.691
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_HOPS_PER_BLOCK = 4  # of 100 ms: blocks of 400 ms overlap by three quarters
_HOP_SECONDS = 0.1
_OVERSAMPLING = 4
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Loudness:
    """The mean squares of the blocks of some audio, weighted and summed over its channels."""

    powers: NDArray[np.float64]

    def integrate(self, gain: float = 1.0) -> float:
        """Integrated loudness in LUFS after a gain; minus infinity if all is below the absolute gate."""
        powers = self.powers * gain**2
        gated = powers[powers > _to_power(_ABSOLUTE_GATE)]
        if not len(gated):
            return -math.inf
        threshold = _to_lufs(float(gated.mean())) + _RELATIVE_GATE
        return _to_lufs(float(gated[gated > _to_power(threshold)].mean()))

    def find_gain(self, target_lufs: float) -> float | None:
        """The factor that makes it as loud as the target; None if all is silent.

        What the absolute gate leaves out changes with the gain, so it is found in a few steps.
        """
        mean = float(self.powers.mean())
        if not mean:
            return None
        gain: float = 10 ** ((target_lufs - _to_lufs(mean)) / 20)
        for _ in range(_TRIES):
            loudness = self.integrate(gain)
            if loudness == -math.inf:
                return None
            gain *= 10 ** ((target_lufs - loudness) / 20)
        return gain


def measure_loudness(array: Floats, sample_rate: int) -> Loudness:
    """Measure (samples, channels), of one channel or two; at least 0.4 seconds."""
    from scipy.signal import sosfilt  # noqa: PLC0415 (takes a tenth of a second, and only audio needs it)

    sections = _design_weighting(sample_rate)
    state = np.zeros((len(sections), 2, array.shape[1]))
    hop = round(_HOP_SECONDS * sample_rate)
    sums = np.zeros(-(-len(array) // hop))
    start = 0
    for block in iterate_blocks(array):
        weighted, state = sosfilt(sections, block.astype(np.float64), axis=0, zi=state)
        power = (weighted**2).sum(axis=1)
        np.add.at(sums, (start + np.arange(len(block))) // hop, power)
        start += len(block)
    whole = sums[: len(array) // hop] / hop
    blocks = np.lib.stride_tricks.sliding_window_view(whole, _HOPS_PER_BLOCK)
    return Loudness(blocks.mean(axis=1))


def measure_true_peak(array: Floats, sample_rate: int) -> float:
    """The highest absolute value between the samples, too."""
    blocks = resample_blocks(array, sample_rate, _OVERSAMPLING * sample_rate)
    peaks = [float(np.abs(block).max()) for block in blocks if len(block)]
    peaks.extend(float(np.abs(block).max()) for block in iterate_blocks(array))
    return max(peaks)


def _design_weighting(rate: int) -> NDArray[np.float64]:
    """The K-weighting as two biquads for any sample rate.

    Source: the analogue prototypes of the filters that BS.1770 tabulates for 48 kHz, by Brecht De Man, "Evaluation of
    implementations of the EBU R128 loudness measurement", AES 145, 2018.
    """
    warped, q = math.tan(math.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    scale = 1 + warped / q + warped**2
    poles = (2 * (warped**2 - 1) / scale, (1 - warped / q + warped**2) / scale)
    zeros = (high + band * warped / q + warped**2, 2 * (warped**2 - high))
    last = high - band * warped / q + warped**2
    treble = [zeros[0] / scale, zeros[1] / scale, last / scale, 1.0, *poles]
    warped, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    scale = 1 + warped / q + warped**2
    poles = (2 * (warped**2 - 1) / scale, (1 - warped / q + warped**2) / scale)
    return np.array([treble, [1.0, -2.0, 1.0, 1.0, *poles]])


def _to_lufs(power: float) -> float:
    return _OFFSET + 10 * math.log10(power)


def _to_power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))
