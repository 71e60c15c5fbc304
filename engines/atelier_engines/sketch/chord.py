"""Synthesises a calm chord that depends on the seed, of any exact length, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_engines.sketch.drawing import random_generator
from atelier_engines.task import AudioTask

_CHORDS = ((0, 7, 12, 16), (0, 7, 12, 15), (0, 5, 12, 17), (0, 7, 14, 16))
"""Semitones above the lowest tone."""
_HARMONICS = ((1, 1.0), (2, 0.3), (3, 0.12))
"""Multiple of a tone's frequency, and how loud."""
_PEAK = 0.8
_BLOCK = 65536
"""Samples per block, to keep intermediate arrays small."""
_FADE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Partial:
    """One sine with a slow swell; times are in seconds, phases in cycles."""

    hertz: float
    level: float
    phase: float
    swell_hertz: float
    swell_phase: float


class Chord:
    """A chord of `length` samples, computed on demand."""

    def __init__(self, task: AudioTask) -> None:
        """Choose the tones; no samples are computed yet."""
        self.length = round(task.duration_seconds * task.sample_rate)
        self._rate = task.sample_rate
        self._channels = task.channels
        self._loops = task.seamless_loop
        self._partials = _compose(task, self.length / task.sample_rate)

    def fill(self, samples: NDArray[np.float32], start: int, stop: int) -> None:
        """Compute samples `start` to `stop` of `samples`, (samples, channels); blocks."""
        for low in range(start, stop, _BLOCK):
            high = min(low + _BLOCK, stop)
            samples[low:high] = self._block(np.arange(low, high))

    def finish(self, samples: NDArray[np.float32]) -> None:
        """Nothing: it is never too loud."""

    def _block(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        seconds = numbers / self._rate
        block = np.zeros((len(numbers), self._channels), np.float32)
        for partial in self._partials:
            tone = partial.level * _sine(seconds * partial.hertz + partial.phase)
            for channel in range(self._channels):
                apart = partial.swell_phase + channel / 4
                swell = 0.75 + 0.25 * _sine(seconds * partial.swell_hertz + apart)
                block[:, channel] += tone * swell
        if not self._loops:
            block *= self._fade(numbers)[:, None]
        return block

    def _fade(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        ramp = max(1.0, min(_FADE_SECONDS * self._rate, self.length / 4))
        edge = np.minimum(numbers, self.length - 1 - numbers) / ramp
        return np.sin(np.minimum(edge, 1.0) * np.pi / 2).astype(np.float32)


def _compose(task: AudioTask, seconds: float) -> tuple[_Partial, ...]:
    """Choose the sines; in a seamless loop each has a whole number of periods."""
    random = random_generator(task.seed, task.prompt)
    lowest = 110.0 * 2 ** (int(random.integers(0, 12)) / 12)
    chord = _CHORDS[int(random.integers(len(_CHORDS)))]
    whole = sum(level for _, level in _HARMONICS) * len(chord)

    def fitted(hertz: float) -> float:
        return max(1, round(hertz * seconds)) / seconds if task.seamless_loop else hertz

    return tuple(
        _Partial(
            hertz=fitted(lowest * 2 ** (semitones / 12) * multiple),
            level=_PEAK * level / whole,
            phase=random.random(),
            swell_hertz=fitted(random.uniform(0.1, 0.6)),
            swell_phase=random.random(),
        )
        for semitones in chord
        for multiple, level in _HARMONICS
    )


def _sine(cycles: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.sin((cycles % 1.0 * (2 * np.pi)).astype(np.float32))
