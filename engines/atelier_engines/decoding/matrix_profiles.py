"""ICC profiles that are curves and a matrix (ICC.1:2022, F.3), exact to the rounding.

Pillow's LittleCMS takes 8 bits, computes them with an error of 2, and has no more.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atelier_engines.decoding.samples import Samples

LEVELS = 2**16
"""Levels of a sample of 16 bits."""

_Floats: TypeAlias = NDArray[np.float32]

_SPACE, _CONNECTION = slice(16, 20), slice(20, 24)  # in the header
_TAG_COUNT, _TAGS = 128, 132
_TABLES = {b"A2B0", b"D2B0"}  # tags that count more than curves
_COLUMNS = (b"rXYZ", b"gXYZ", b"bXYZ")
_CURVES = {b"RGB ": (b"rTRC", b"gTRC", b"bTRC"), b"GRAY": (b"kTRC",)}
_FIXED = 65536  # s15Fixed16Number
_GAMMA_FIXED = 256  # u8Fixed8Number
_TOE = 0.0031308  # light below which sRGB is linear
_PARAMETERS = (1, 3, 4, 5, 7)  # of each type of a parametric curve


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixProfile:
    """Converts colours to sRGB."""

    curves: tuple[_Floats, ...]
    """Light for each level, 0 to 1: of grey, or of red, green and blue."""
    matrix: _Floats
    """From that light to the light of sRGB, (3, number of curves)."""

    def convert(self, samples: Samples) -> NDArray[np.uint8]:
        """Colours of (height, width, number of curves), of 8 or 16 bits, in sRGB, (height, width, 3)."""
        step = (LEVELS - 1) // np.iinfo(samples.dtype).max
        curves = [curve[::step] for curve in self.curves]
        light = np.stack([curve[samples[..., index]] for index, curve in enumerate(curves)], axis=2)
        srgb = (light @ self.matrix.T).clip(0, 1)
        return _srgb_levels()[(srgb * (LEVELS - 1) + 0.5).astype(np.uint16)]


def read_matrix_profile(profile: bytes, srgb: bytes) -> MatrixProfile | None:
    """The profile, or None if it has tables or is broken; `srgb` is a profile of sRGB that has curves and a matrix."""
    try:
        tags, names = _read_tags(profile), _CURVES[profile[_SPACE]]
        if _TABLES & tags.keys() or profile[_CONNECTION] != b"XYZ ":
            return None
        matrix = np.ones((3, 1))  # grey is the same share of white's red, green and blue
        if len(names) > 1:
            matrix = np.linalg.inv(_read_matrix(_read_tags(srgb))) @ _read_matrix(tags)
        curves = tuple(_read_curve(tags[name]) for name in names)
    except (KeyError, IndexError, ValueError, struct.error, np.linalg.LinAlgError):
        return None
    return MatrixProfile(curves=curves, matrix=matrix.astype(np.float32))


def _read_tags(profile: bytes) -> Mapping[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, _TAG_COUNT)
    places = struct.iter_unpack(">4sII", profile[_TAGS : _TAGS + 12 * count])
    return {name: profile[start : start + size] for name, start, size in places}


def _read_matrix(tags: Mapping[bytes, bytes]) -> NDArray[np.float64]:
    """From light of red, green and blue to XYZ."""
    columns = [struct.unpack_from(">8x3i", tags[name]) for name in _COLUMNS]
    return np.array(columns).T / _FIXED


def _read_curve(tag: bytes) -> _Floats:
    """Light for each level of 16 bits."""
    levels = np.linspace(0, 1, LEVELS)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">8xH", tag)
        values = np.array(struct.unpack_from(f">12x{_PARAMETERS[kind]}i", tag)) / _FIXED
        return _compute_curve(values.tolist(), levels).clip(0, 1).astype(np.float32)
    if tag[:4] != b"curv":
        raise ValueError(tag[:4])
    (count,) = struct.unpack_from(">8xI", tag)
    table = np.frombuffer(tag, ">u2", count, offset=12)
    if count > 1:
        levels = np.interp(levels, np.linspace(0, 1, count), table / (LEVELS - 1))
    elif count:
        levels **= table[0] / _GAMMA_FIXED
    return levels.astype(np.float32)


def _compute_curve(values: list[float], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """A parametric curve (10.18, table 68): a power from a limit on, and a line below it."""
    slope = above = below = 0.0
    match values:
        case [power]:
            a, b, limit = 1.0, 0.0, 0.0
        case [power, a, b]:
            limit = -b / a
        case [power, a, b, above]:
            limit, below = -b / a, above
        case [power, a, b, slope, limit]:
            pass
        case [power, a, b, slope, limit, above, below]:
            pass
        case _:
            raise ValueError(values)
    high = np.maximum(a * levels + b, 0) ** power + above
    return np.where(levels >= limit, high, slope * levels + below)


@cache
def _srgb_levels() -> NDArray[np.uint8]:
    """The level of sRGB in eight bits for each level of light in 16 bits (IEC 61966-2-1)."""
    light = np.linspace(0, 1, LEVELS)
    encoded = np.where(light <= _TOE, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)
