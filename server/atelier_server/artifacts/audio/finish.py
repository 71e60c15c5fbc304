"""Finishes samples: checks, high-pass, channels, sample rate, loop, length, fades and loudness, in this order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Samples
from atelier_server.artifacts.audio import shape
from atelier_server.artifacts.audio.blocks import Floats
from atelier_server.artifacts.audio.checks import check_length, check_samples
from atelier_server.artifacts.audio.loudness import measure_loudness, measure_true_peak
from atelier_server.artifacts.audio.plan import MAX_TRUE_PEAK_DBTP, Finishing

_MARGIN_DB = 0.05
"""By how much measures of the true peak differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came out."""

    samples: Samples
    loudness_lufs: float | None = None
    """The loudness that it has, where another could not be reached; else None."""
    lowered_db: float = 0.0
    """By how much it was lowered, because its samples were above full scale."""


def finish(samples: Samples, plan: Finishing) -> Finished:
    """Do what was decided. The engine's own array is not changed: it may be in a cache.

    Memory beside the samples: at most two copies at a time, and some blocks.

    Raises:
        EngineFailedError: the samples are not finite, silent, clipped, too few, or too quiet for a loudness.
    """
    array, rate = samples.array, samples.sample_rate
    if not len(array):
        raise EngineFailedError("the engine made no audio")
    check_samples(array)
    if plan.seconds is not None:
        expected = round((plan.seconds + plan.crossfade_seconds) * rate)
        check_length(len(array), expected, rate)
        array = shape.fit_length(array, expected)
    array = _shape(_copy_if_changed(array, plan), rate, plan)
    made = Samples(array=array, sample_rate=plan.sample_rate)
    if plan.loudness_lufs is not None:
        return _set_loudness(made, plan.loudness_lufs)
    return _keep_below_full_scale(made)


def _copy_if_changed(array: Floats, plan: Finishing) -> Floats:
    """The array, or a copy if it is to be changed in place."""
    in_place = (
        plan.high_pass_hz is not None
        or plan.loudness_lufs is not None
        or plan.fade_in_seconds
        or plan.fade_out_seconds
    )
    return array.copy() if in_place else array


def _shape(array: Floats, rate: int, plan: Finishing) -> Floats:
    if plan.high_pass_hz is not None:
        shape.high_pass(array, rate, plan.high_pass_hz, loops=plan.loops)
    array = shape.mix(array, plan.channels)
    array = shape.resample(array, rate, plan.sample_rate, loops=plan.loops)
    if plan.samples is not None:
        if plan.crossfade_seconds:
            array = shape.crossfade_loop(array, plan.samples)
        array = shape.fit_length(array, plan.samples)
    if plan.fade_in_seconds or plan.fade_out_seconds:
        counts = (plan.fade_in_seconds, plan.fade_out_seconds)
        shape.fade(array, *(round(seconds * plan.sample_rate) for seconds in counts))
    return array


def _set_loudness(made: Samples, target_lufs: float) -> Finished:
    """Make it as loud as the target, or as its true peak permits."""
    loudness = measure_loudness(made.array, made.sample_rate)
    gain = loudness.find_gain(target_lufs)
    if gain is None:
        raise EngineFailedError("the engine made audio too quiet for its loudness to be measured")
    highest = _max_gain(made)
    used = min(gain, highest)
    made.array[:] *= np.float32(used)
    reached = loudness.integrate(used) if used < gain else None
    return Finished(samples=made, loudness_lufs=reached)


def _keep_below_full_scale(made: Samples) -> Finished:
    """Lower what has samples above full scale, which no file holds, until its true peak is that of the limit."""
    if float(np.abs(made.array).max()) <= 1.0:
        return Finished(samples=made)
    gain = _max_gain(made)
    lowered = Samples(array=made.array * np.float32(gain), sample_rate=made.sample_rate)
    return Finished(samples=lowered, lowered_db=-20 * math.log10(gain))


def _max_gain(made: Samples) -> float:
    true_peak = measure_true_peak(made.array, made.sample_rate)
    return float(10 ** ((MAX_TRUE_PEAK_DBTP - _MARGIN_DB) / 20) / true_peak)
