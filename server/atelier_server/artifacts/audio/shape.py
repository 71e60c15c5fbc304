"""Filters, resamples, loops and fades samples."""

from __future__ import annotations

import math

import numpy as np

from atelier_server.artifacts.audio.blocks import Floats, iterate_blocks, resample_blocks

_WARM_UP_SECONDS = 2.0
"""Of a loop, for a filter to forget how it began."""
_WRAP_SECONDS = 0.1
"""Of a loop before its beginning and after its end, for a resampler."""


def high_pass(array: Floats, sample_rate: int, hertz: float, *, loops: bool) -> None:
    """Filter in place by a Butterworth filter of second order; a loop stays one."""
    from scipy.signal import butter, sosfilt  # noqa: PLC0415 (see loudness.py)

    sections = butter(2, hertz, "highpass", fs=sample_rate, output="sos")
    state = np.zeros((len(sections), 2, array.shape[1]))
    if loops:
        before = _wrap_before(array, round(_WARM_UP_SECONDS * sample_rate))
        _, state = sosfilt(sections, before.astype(np.float64), axis=0, zi=state)
    for block in iterate_blocks(array):
        block[:], state = sosfilt(sections, block.astype(np.float64), axis=0, zi=state)


def mix(array: Floats, channels: int) -> Floats:
    """The mean of all channels in one, or one in all; the array itself if it has as many."""
    if array.shape[1] == channels:
        return array
    mono = array if array.shape[1] == 1 else array.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(mono, channels, axis=1)


def resample(array: Floats, rate: int, target: int, *, loops: bool) -> Floats:
    """The samples at another rate; those of a loop continue over its end there, too."""
    if rate == target:
        return array
    length = round(len(array) * target / rate)
    wrap = 0
    if loops:  # a whole number of samples at both rates
        step = rate // math.gcd(rate, target)
        wrap = step * -(-round(_WRAP_SECONDS * rate) // step)
        array = np.concatenate([_wrap_before(array, wrap), array, _wrap_after(array, wrap)])
    resampled = np.concatenate(list(resample_blocks(array, rate, target)))
    start = wrap * target // rate
    return resampled[start : start + length]


def fit_length(array: Floats, length: int) -> Floats:
    """The first so many samples, with silence after them if there are fewer."""
    if len(array) >= length:
        return array[:length]
    return np.concatenate([array, np.zeros((length - len(array), array.shape[1]), np.float32)])


def crossfade_loop(array: Floats, length: int) -> Floats:
    """A loop of that length: what comes after it fades out over its beginning, which fades in, with equal power."""
    extra = len(array) - length
    angle = (np.arange(extra, dtype=np.float32)[:, None] + 0.5) / extra * (np.pi / 2)
    looped = array[:length].copy()
    looped[:extra] = array[length:] * np.cos(angle) + array[:extra] * np.sin(angle)
    return looped


def fade(array: Floats, samples_in: int, samples_out: int) -> None:
    """Fade in from silence and out into it, in place, along half a cosine."""
    for count, edge in ((samples_in, array[:samples_in]), (samples_out, array[::-1][:samples_out])):
        if count:
            _rise(edge, count)


def _rise(edge: Floats, count: int) -> None:
    edge *= 0.5 - 0.5 * np.cos(np.arange(count, dtype=np.float32)[:, None] / count * np.pi)


def _wrap_before(array: Floats, count: int) -> Floats:
    """What comes before the beginning of a loop."""
    return np.take(array, range(-count, 0), axis=0, mode="wrap")


def _wrap_after(array: Floats, count: int) -> Floats:
    """What comes after its end."""
    return np.take(array, range(count), axis=0, mode="wrap")
