"""Layers of audio that are computed for any range of samples: noise, strokes at moments, and tones. All can loop.

A loop is one by construction: noise is made in the frequency domain and is periodic, what rings over the end goes on at
the beginning, and tones have a whole number of periods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
"""(samples, channels), or (samples,)."""
Shape = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Amplitude of noise by frequency in hertz."""
_MAX_PERIOD = 2**19
"""Samples of noise that are made at once: 12 seconds at 44.1 kHz, in 20 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The audio that layers are for."""

    length: int
    """Samples."""
    rate: int
    """Hertz."""
    channels: int
    loops: bool

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.length / self.rate

    def fit(self, hertz: float) -> float:
        """The frequency; in a loop the nearest one with a whole number of periods, at least one."""
        return max(1, round(hertz * self.seconds)) / self.seconds if self.loops else hertz


class Layer(Protocol):
    """A part of the audio."""

    def add(self, block: Floats, start: int) -> None:
        """Add its samples from `start` on to those of the block."""


@dataclass(frozen=True, slots=True)
class Swell:
    """A slow change of the level, 1 - depth to 1; a power above 1 makes its peaks short."""

    hertz: float
    depth: float
    phase: float = 0.0
    power: float = 1.0

    def at(self, seconds: NDArray[np.float64]) -> Floats:
        """The factor at these times."""
        wave = 0.5 + 0.5 * _sine(seconds * self.hertz + self.phase)
        factor: Floats = (1 - self.depth + self.depth * wave**self.power).astype(np.float32)
        return factor


class Noise:
    """Noise of a spectrum, of its own in every channel, with slow changes of its level."""

    def __init__(
        self,
        frame: Frame,
        random: np.random.Generator,
        shape: Shape,
        *,
        level: float,
        swells: Sequence[Swell] = (),
    ) -> None:
        """Make the noise; `level` is its root mean square."""
        self._frame, self._swells = frame, swells
        self._period = min(frame.length, _MAX_PERIOD)
        self._texture = np.stack(
            [make_noise(random, self._period, frame.rate, shape) for _ in range(frame.channels)],
            axis=1,
        ) * np.float32(level)
        self._parts = -(-frame.length // self._period) if frame.length > self._period else 0
        offsets = random.integers(0, self._period, self._parts + 1)
        if self._parts:  # so that the end continues in the beginning
            offsets[-1] = (offsets[0] - frame.length) % self._period
        self._offsets = offsets

    def add(self, block: Floats, start: int) -> None:
        """See Layer.add."""
        numbers = np.arange(start, start + len(block))
        noise = self._read(numbers)
        seconds = numbers / self._frame.rate
        for swell in self._swells:
            noise = noise * swell.at(seconds)[:, None]
        block += noise

    def _read(self, numbers: NDArray[np.int64]) -> Floats:
        """The noise itself; of longer audio two places of it at a time, crossfaded with equal power."""
        if not self._parts:
            return self._texture[numbers]
        place = numbers * self._parts / self._frame.length
        part = place.astype(np.int64)
        angle = ((place - part) * (np.pi / 2)).astype(np.float32)[:, None]
        first = self._texture[(numbers + self._offsets[part]) % self._period]
        second = self._texture[(numbers + self._offsets[part + 1]) % self._period]
        mixed: Floats = first * np.cos(angle) + second * np.sin(angle)
        return mixed


def make_noise(random: np.random.Generator, length: int, rate: int, shape: Shape) -> Floats:
    """Periodic noise of a spectrum, with a root mean square of 1; (length,)."""
    hertz: NDArray[np.float64] = np.fft.rfftfreq(length, 1 / rate).astype(np.float64)
    amplitude = shape(hertz)
    amplitude[0] = 0.0
    phase = random.normal(0, 1, (2, len(hertz)))
    noise = np.fft.irfft(amplitude * (phase[0] + 1j * phase[1]), length)
    scaled: Floats = (noise / max(math.sqrt(float((noise**2).mean())), 1e-12)).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Stroke:
    """One short piece of audio at a moment."""

    start: int
    """Sample at which it begins."""
    wave: Floats
    """(samples,)."""
    level: float = 1.0
    pan: float = 0.5
    """0 is left, 1 is right."""


class Strokes:
    """Short pieces of audio; what of them lies beyond the end is at the beginning of a loop, else lost."""

    def __init__(self, frame: Frame, strokes: Sequence[Stroke]) -> None:
        """Play them all."""
        self._frame = frame
        self._strokes = strokes
        self._gains = [_pan(stroke, frame.channels) for stroke in strokes]

    def add(self, block: Floats, start: int) -> None:
        """See Layer.add."""
        for stroke, gains in zip(self._strokes, self._gains, strict=True):
            length = self._frame.length
            rounds = (stroke.start + len(stroke.wave)) // length + 1 if self._frame.loops else 1
            for turn in range(rounds):
                _add_wave(block, stroke.start - turn * length - start, stroke.wave, gains)


def _add_wave(block: Floats, offset: int, wave: Floats, gains: Floats) -> None:
    low, high = max(offset, 0), min(offset + len(wave), len(block))
    if low < high:
        block[low:high] += wave[low - offset : high - offset, None] * gains


def _pan(stroke: Stroke, channels: int) -> Floats:
    """The level in each channel, with equal power."""
    angle = stroke.pan * math.pi / 2
    sides = (math.cos(angle), math.sin(angle)) if channels > 1 else (1 / math.sqrt(2),)
    return np.array(sides, np.float32) * np.float32(stroke.level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """A sine; its frequency may sweep, and its level swell."""

    hertz: float
    level: float
    phase: float = 0.0
    sweep_hertz: float = 0.0
    """How often a second its frequency goes up and down; 0 for never."""
    sweep_depth: float = 0.0
    """Hertz by which it does."""
    swells: tuple[Swell, ...] = ()


@dataclass(frozen=True, slots=True)
class Tones:
    """Several sines, slightly apart in the channels."""

    frame: Frame
    tones: Sequence[Tone]

    def add(self, block: Floats, start: int) -> None:
        """See Layer.add."""
        seconds = np.arange(start, start + len(block)) / self.frame.rate
        for tone in self.tones:
            cycles = seconds * tone.hertz + tone.phase
            if tone.sweep_hertz:
                depth = tone.sweep_depth / (2 * math.pi * tone.sweep_hertz)
                cycles = cycles + depth * (1 - _cosine(seconds * tone.sweep_hertz))
            level = np.full(len(block), tone.level, np.float32)
            for swell in tone.swells:
                level *= swell.at(seconds)
            for channel in range(block.shape[1]):
                block[:, channel] += level * _sine(cycles + channel / 8)


def _sine(cycles: NDArray[np.float64]) -> Floats:
    return np.sin((cycles % 1.0 * (2 * np.pi)).astype(np.float32))


def _cosine(cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cos(cycles % 1.0 * (2 * np.pi))
