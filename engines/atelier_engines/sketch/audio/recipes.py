"""How each name is heard: which layers of noise, strokes and tones it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier_engines.sketch.audio import strokes
from atelier_engines.sketch.audio.layers import (
    Floats,
    Frame,
    Layer,
    Noise,
    Shape,
    Stroke,
    Strokes,
    Swell,
    Tone,
    Tones,
)
from atelier_engines.sketch.audio.words import Request

_FAR_HERTZ = 700.0
"""From here on, what is far away gets quieter."""
_VARIANTS = 6
"""How many different strokes are made; each is played many times."""
Make = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a recipe is for."""

    frame: Frame
    random: np.random.Generator
    request: Request


def build_layers(frame: Frame, random: np.random.Generator, request: Request) -> Sequence[Layer]:
    """The layers of one name."""
    return _RECIPES[request.name](Setting(frame=frame, random=random, request=request))


def _noise(
    setting: Setting, low: float, high: float, level: float, *swells: Swell, slope: float = 1.0
) -> Noise:
    """Noise of a band; a higher slope is darker."""
    return Noise(
        setting.frame,
        setting.random,
        _band(setting, low, high, slope),
        level=level * setting.request.level,
        swells=swells,
    )


def _band(setting: Setting, low: float, high: float, slope: float) -> Shape:
    def shape(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        above: NDArray[np.float64] = np.maximum(hertz, 1.0)
        amplitude = (1 / (1 + (low / above) ** 4)) / (1 + (above / high) ** (2 * slope))
        shaped: NDArray[np.float64] = amplitude * _distance(setting, hertz)
        return shaped

    return shape


def _distance(setting: Setting, hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + (hertz / _FAR_HERTZ) ** 2) if setting.request.far else np.ones_like(hertz)


def _swell(setting: Setting, seconds: float, depth: float, power: float = 1.0) -> Swell:
    """A slow change of about so many seconds."""
    hertz = setting.request.pace / (seconds * setting.random.uniform(0.8, 1.25))
    return Swell(setting.frame.fit(hertz), depth, setting.random.random(), power)


def _play(setting: Setting, make: Make, starts: Sequence[float], level: float) -> Strokes:
    """Strokes at these seconds, each of one of a few variants, somewhere between left and right."""
    random, rate = setting.random, setting.frame.rate
    count = min(_VARIANTS, max(1, len(starts)))
    waves = [_move_away(setting, make(random, rate)) for _ in range(count)]
    played = [
        Stroke(
            start=round(start * rate),
            wave=waves[int(random.integers(count))],
            level=level * setting.request.level * random.uniform(0.6, 1.0),
            pan=random.uniform(0.2, 0.8),
        )
        for start in starts
    ]
    return Strokes(setting.frame, played)


def _move_away(setting: Setting, wave: Floats) -> Floats:
    """The wave as it is heard from where it is asked for."""
    if not setting.request.far:
        return wave
    size = 2 * len(wave)  # no wrapping round
    hertz: NDArray[np.float64] = np.fft.rfftfreq(size, 1 / setting.frame.rate).astype(np.float64)
    heard = np.fft.irfft(np.fft.rfft(wave, size) * _distance(setting, hertz), size)
    return heard[: len(wave)].astype(np.float32)


def _at_random(setting: Setting, per_second: float) -> list[float]:
    """Moments at random, at least one, early."""
    seconds = setting.frame.seconds
    count = max(1, setting.random.poisson(per_second * setting.request.pace * seconds))
    moments = np.sort(setting.random.uniform(0, seconds, count))
    moments[0] = min(moments[0], 0.1 * seconds)
    return [float(moment) for moment in moments]


def _regular(setting: Setting, every: float, jitter: float = 0.0) -> list[float]:
    """Moments at a steady pace, a whole number of them in a loop."""
    seconds = setting.frame.seconds
    count = max(1, round(seconds * setting.request.pace / every))
    step = seconds / count if setting.frame.loops else every / setting.request.pace
    moments = [0.02 + number * step for number in range(max(1, math.ceil((seconds - 0.02) / step)))]
    return [max(0.0, at + setting.random.uniform(-jitter, jitter)) for at in moments][
        : count if setting.frame.loops else None
    ]


def _rain(setting: Setting) -> Sequence[Layer]:
    return (
        _noise(setting, 900, 9000, 0.12, _swell(setting, 5, 0.25)),
        _noise(setting, 150, 900, 0.03),
        _play(setting, strokes.drop, _at_random(setting, 25), 0.25),
    )


def _wind(setting: Setting) -> Sequence[Layer]:
    return (
        _noise(
            setting, 60, 350, 0.16, _swell(setting, 4, 0.7), _swell(setting, 1.7, 0.3), slope=1.5
        ),
        _noise(setting, 500, 900, 0.05, _swell(setting, 3.1, 0.95, 2.0), slope=3.0),
    )


def _waves(setting: Setting) -> Sequence[Layer]:
    return (
        _noise(setting, 40, 500, 0.12, _swell(setting, 7, 0.85)),
        _noise(setting, 400, 6000, 0.12, _swell(setting, 7, 0.97, 3.0)),
    )


def _thunder(setting: Setting) -> Sequence[Layer]:
    claps = _play(setting, strokes.roll_thunder, _regular(setting, 6.0, 0.01), 0.8)
    return (claps, _noise(setting, 25, 70, 0.03, _swell(setting, 5, 0.6), slope=2.0))


def _fire(setting: Setting) -> Sequence[Layer]:
    return (
        _noise(setting, 50, 300, 0.06, _swell(setting, 1.3, 0.5), slope=1.5),
        _noise(setting, 1000, 5000, 0.012, _swell(setting, 0.7, 0.6)),
        _play(setting, strokes.crackle, _at_random(setting, 9), 0.5),
    )


def _stream(setting: Setting) -> Sequence[Layer]:
    return (
        _noise(setting, 300, 2500, 0.1, _swell(setting, 1.1, 0.3), _swell(setting, 0.31, 0.25)),
        _noise(setting, 80, 400, 0.05, _swell(setting, 0.53, 0.4)),
        _play(setting, strokes.drop, _at_random(setting, 12), 0.08),
    )


def _bell(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.strike_bell, _regular(setting, 3.0), 0.6),)


def _chime(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.strike_chime, _at_random(setting, 1.6), 0.35),)


def _bird(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.sing, _at_random(setting, 1.1), 0.35),)


def _cricket(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.stridulate, _regular(setting, 0.45, 0.02), 0.25),)


def _drum(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.beat_drum, _regular(setting, 0.5), 0.7),)


def _click(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.click, _regular(setting, 0.5), 0.6),)


def _footsteps(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.tread, _regular(setting, 0.58, 0.015), 0.7),)


def _heartbeat(setting: Setting) -> Sequence[Layer]:
    return (_play(setting, strokes.pulse, _regular(setting, 0.9), 0.8),)


def _engine(setting: Setting) -> Sequence[Layer]:
    """A four-stroke engine: harmonics of half its firing rate, of which every fourth is loud."""
    lowest = setting.random.uniform(13, 18) * setting.request.pace
    level = 0.09 * setting.request.level
    shake = Swell(setting.frame.fit(lowest), 0.35, setting.random.random())
    tones = [
        Tone(
            hertz=setting.frame.fit(lowest * number),
            level=level
            * (1.0 if number % 4 == 0 else 0.4)
            / number**0.5
            * _at_far(setting, lowest * number),
            phase=setting.random.random(),
            swells=(shake,),
        )
        for number in range(2, 33)
    ]
    return (Tones(setting.frame, tones), _noise(setting, 80, 700, 0.03, shake))


def _drone(setting: Setting) -> Sequence[Layer]:
    lowest = 55.0 * 2 ** (int(setting.random.integers(0, 12)) / 12)
    tones = [
        Tone(
            hertz=setting.frame.fit(lowest * ratio * number + apart),
            level=0.12 * setting.request.level / number * _at_far(setting, lowest * number),
            phase=setting.random.random(),
            swells=(_swell(setting, 6, 0.5),),
        )
        for ratio in (1.0, 1.5, 2.0)
        for number in (1, 2, 3, 5)
        for apart in (0.0, 0.35)
    ]
    return (Tones(setting.frame, tones),)


def _siren(setting: Setting) -> Sequence[Layer]:
    sweep = setting.frame.fit(0.28 * setting.request.pace)
    tones = [
        Tone(
            hertz=setting.frame.fit(820.0 * number),
            level=0.3 * setting.request.level / number**1.5 * _at_far(setting, 820.0 * number),
            phase=setting.random.random(),
            sweep_hertz=sweep,
            sweep_depth=330.0 * number,
        )
        for number in (1, 2, 3)
    ]
    return (Tones(setting.frame, tones),)


def _static(setting: Setting) -> Sequence[Layer]:
    return (_noise(setting, 100, 16000, 0.12),)


def _at_far(setting: Setting, hertz: float) -> float:
    return float(_distance(setting, np.array([hertz]))[0])


_RECIPES: Mapping[str, Callable[[Setting], Sequence[Layer]]] = {
    "rain": _rain,
    "wind": _wind,
    "waves": _waves,
    "thunder": _thunder,
    "fire": _fire,
    "stream": _stream,
    "bell": _bell,
    "chime": _chime,
    "bird": _bird,
    "cricket": _cricket,
    "drum": _drum,
    "click": _click,
    "footsteps": _footsteps,
    "heartbeat": _heartbeat,
    "engine": _engine,
    "drone": _drone,
    "siren": _siren,
    "static": _static,
}
"""One for each name of words.SYNONYMS."""
