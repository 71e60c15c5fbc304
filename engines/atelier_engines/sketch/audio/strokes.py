"""Synthesises short pieces of audio: struck, plucked, chirped and burst. Each returns (samples,), up to about 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from atelier_engines.sketch.audio.layers import Floats, make_noise

_BELL = (
    *((0.5, 0.5, 1.0), (1.0, 1.0, 0.8), (1.19, 0.7, 0.6), (1.5, 0.35, 0.45)),
    *((2.0, 0.6, 0.5), (2.74, 0.3, 0.3), (3.76, 0.2, 0.2), (5.1, 0.12, 0.12)),
)
"""Partials of a church bell: ratio to the strike tone, level, and how long relative to the lowest."""
_CHIME = ((1.0, 1.0, 1.0), (2.76, 0.4, 0.45), (5.4, 0.2, 0.2))
"""Partials of a free bar. Source: Fletcher and Rossing, The Physics of Musical Instruments, 2.15 (3.011², 5², 7²)."""
_ATTACK_SECONDS = 0.002


def strike_bell(random: np.random.Generator, rate: int) -> Floats:
    """A large bell of four seconds."""
    return _ring(random, rate, random.uniform(220, 420), 4.0, _BELL)


def strike_chime(random: np.random.Generator, rate: int) -> Floats:
    """A small bar of two and a half seconds, of a pentatonic scale."""
    hertz = 880 * 2 ** (int(random.choice([0, 2, 4, 7, 9, 12])) / 12)
    return _ring(random, rate, hertz, 2.5, _CHIME)


def beat_drum(random: np.random.Generator, rate: int) -> Floats:
    """A low drum whose pitch falls, and the slap of its skin."""
    seconds = _seconds(0.6, rate)
    hertz = random.uniform(46, 60)
    cycles = hertz * seconds + 3.2 * (1 - np.exp(-seconds / 0.04))
    body = np.sin(2 * np.pi * cycles) * np.exp(-seconds / 0.14)
    slap = _burst(random, rate, 0.6, 0.02, (200, 3000))
    return _soften(body + 0.35 * slap, rate)


def click(random: np.random.Generator, rate: int) -> Floats:
    """A dry tick."""
    seconds = _seconds(0.06, rate)
    hertz = random.uniform(1800, 2400)
    body = np.sin(2 * np.pi * hertz * seconds) * np.exp(-seconds / 0.006)
    return (0.7 * body + 0.5 * _burst(random, rate, 0.06, 0.002, (1500, 7000))).astype(np.float32)


def crackle(random: np.random.Generator, rate: int) -> Floats:
    """A spark of burning wood."""
    decay = random.uniform(0.001, 0.006)
    return _burst(random, rate, 0.04, decay, (900, 7000)).astype(np.float32)


def drop(random: np.random.Generator, rate: int) -> Floats:
    """A drop of rain on a surface."""
    seconds = _seconds(0.03, rate)
    hertz = random.uniform(1500, min(6000, 0.4 * rate))
    ring = np.sin(2 * np.pi * hertz * seconds) * np.exp(-seconds / random.uniform(0.002, 0.006))
    return ring.astype(np.float32)


def sing(random: np.random.Generator, rate: int) -> Floats:
    """A few chirps of a bird."""
    parts = []
    centre = random.uniform(2500, min(4200, 0.3 * rate))
    for _ in range(int(random.integers(2, 6))):
        seconds = _seconds(random.uniform(0.05, 0.14), rate)
        turn = seconds / seconds[-1]
        glide = random.uniform(-900, 900)
        hertz = centre + random.uniform(-400, 400) + glide * turn
        hertz = hertz + 150 * np.sin(2 * np.pi * 28 * seconds)
        cycles = np.cumsum(hertz) / rate
        parts.append(np.sin(2 * np.pi * cycles) * np.sin(np.pi * turn) ** 1.5)
        parts.append(np.zeros(round(random.uniform(0.02, 0.09) * rate)))
    return np.concatenate(parts).astype(np.float32)


def stridulate(random: np.random.Generator, rate: int) -> Floats:
    """Three pulses of a cricket."""
    seconds = _seconds(0.11, rate)
    hertz = min(random.uniform(4200, 4800), 0.35 * rate)
    pulses = np.sin(np.pi * (seconds / 0.0367 % 1.0)) ** 2
    wave = np.sin(2 * np.pi * hertz * seconds) * pulses
    return _soften(wave, rate)


def tread(random: np.random.Generator, rate: int) -> Floats:
    """A foot on gravel: its heel, then its sole."""
    heel = _burst(random, rate, 0.3, 0.03, (60, 500))
    sole = _burst(random, rate, 0.3, 0.05, (600, 5000))
    delay = round(random.uniform(0.05, 0.08) * rate)
    late = np.concatenate([np.zeros(delay), sole[: len(sole) - delay]])
    return _soften(heel + 0.45 * late, rate)


def pulse(random: np.random.Generator, rate: int) -> Floats:
    """Both tones of one beat of a heart."""
    seconds = _seconds(0.5, rate)
    hertz = random.uniform(48, 56)
    first = np.sin(2 * np.pi * hertz * seconds) * np.exp(-seconds / 0.05)
    later = np.maximum(seconds - 0.24, 0.0)
    second = np.sin(2 * np.pi * 1.2 * hertz * later) * np.exp(-later / 0.04)
    return _soften(first + 0.7 * second, rate)


def roll_thunder(random: np.random.Generator, rate: int) -> Floats:
    """A crack, and a low roll of five seconds that comes and goes."""
    seconds = _seconds(5.0, rate)
    low = make_noise(random, len(seconds), rate, lambda hertz: _low_pass(hertz, 90.0))
    envelope = np.exp(-seconds / 1.6)
    for _ in range(5):
        peak = random.uniform(0.1, 3.0)
        envelope += random.uniform(0.2, 0.8) * np.exp(-(((seconds - peak) / 0.25) ** 2))
    crack = _burst(random, rate, 5.0, 0.12, (150, 4000))
    rolled = 0.3 * low * envelope * np.minimum(seconds / 0.05, 1.0) + 0.5 * crack
    return _soften(rolled * np.minimum((5.0 - seconds) / 1.0, 1.0), rate)


def _ring(
    random: np.random.Generator,
    rate: int,
    hertz: float,
    length_seconds: float,
    partials: tuple[tuple[float, float, float], ...],
) -> Floats:
    seconds = _seconds(length_seconds, rate)
    wave = np.zeros(len(seconds))
    for ratio, level, lasting in partials:
        if hertz * ratio < 0.45 * rate:
            decay = np.exp(-seconds / (lasting * length_seconds / 4))
            cycles = hertz * ratio * seconds + random.random()
            wave += level * np.sin(2 * np.pi * cycles) * decay
    wave *= np.minimum((length_seconds - seconds) / 0.2, 1.0)
    return _soften(wave / 2, rate)


def _burst(
    random: np.random.Generator,
    rate: int,
    length: float,
    decay: float,
    band: tuple[float, float],
) -> NDArray[np.float64]:
    """Noise of a band, in hertz, that decays."""
    seconds = _seconds(length, rate)
    low, high = band
    noise = make_noise(
        random, len(seconds), rate, lambda hertz: _low_pass(hertz, high) * _high_pass(hertz, low)
    )
    decayed: NDArray[np.float64] = 0.5 * noise.astype(np.float64) * np.exp(-seconds / decay)
    return decayed


def _soften(wave: NDArray[np.float64], rate: int) -> Floats:
    """The wave without a click at its start."""
    ramp = max(1, round(_ATTACK_SECONDS * rate))
    softened = wave.copy()
    softened[:ramp] *= np.arange(ramp) / ramp
    return softened.astype(np.float32)


def _seconds(length: float, rate: int) -> NDArray[np.float64]:
    return np.arange(round(length * rate)) / rate


def _low_pass(hertz: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    return 1 / (1 + (hertz / edge) ** 2)


def _high_pass(hertz: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    return 1 - 1 / (1 + (hertz / edge) ** 2)
