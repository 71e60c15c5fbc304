"""What a prompt asks for, mixed: of any exact length, computed block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atelier_engines.sketch.audio.layers import Floats, Frame, Layer
from atelier_engines.sketch.audio.recipes import build_layers
from atelier_engines.sketch.audio.words import Reading
from atelier_engines.sketch.drawing import random_generator
from atelier_engines.task import AudioTask

_BLOCK = 65536
"""Samples per block, to keep intermediate arrays small."""
_FADE_SECONDS = 0.02
_PEAK = 0.8


class Scene:
    """Audio of `length` samples, computed on demand."""

    def __init__(self, task: AudioTask, reading: Reading) -> None:
        """Make the layers; each depends on the seed and its own name alone, whatever else is heard."""
        self.length = round(task.duration_seconds * task.sample_rate)
        self._frame = Frame(
            length=self.length,
            rate=task.sample_rate,
            channels=task.channels,
            loops=task.seamless_loop,
        )
        self._layers: list[Layer] = []
        for request in reading.requests:
            random = random_generator(task.seed, request.name)
            self._layers.extend(build_layers(self._frame, random, request))

    def fill(self, samples: Floats, start: int, stop: int) -> None:
        """Compute samples `start` to `stop` of `samples`, (samples, channels); blocks."""
        for low in range(start, stop, _BLOCK):
            block = samples[low : min(low + _BLOCK, stop)]
            for layer in self._layers:
                layer.add(block, low)
            if not self._frame.loops:
                block *= self._fade(np.arange(low, low + len(block)))[:, None]

    def finish(self, samples: Floats) -> None:
        """Lower all samples, if they are too loud; blocks."""
        peak = max(float(samples.max()), -float(samples.min()))
        if peak > _PEAK:
            samples *= np.float32(_PEAK / peak)

    def _fade(self, numbers: NDArray[np.int64]) -> Floats:
        ramp = max(1.0, min(_FADE_SECONDS * self._frame.rate, self.length / 4))
        edge = np.minimum(numbers, self.length - 1 - numbers) / ramp
        return np.sin(np.minimum(edge, 1.0) * np.pi / 2).astype(np.float32)
