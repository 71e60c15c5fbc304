"""ICC profiles made by hand (ICC.1:2022), and the sRGB colours that follow from them by the standards' formulas."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

D50 = np.array([0.9642, 1.0, 0.8249])
SRGB_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
ADOBE_TO_XYZ = np.array(
    [
        [0.6097559, 0.2052401, 0.1492240],
        [0.3111242, 0.6256560, 0.0632197],
        [0.0194811, 0.0608902, 0.7448387],
    ]
)
"""Columns are the primaries, adapted to D50."""
GAMMA = 563 / 256
CYAN = (60, -30, -40)
"""Lab of full cyan in `cmyk_profile`."""


def rgb_profile() -> bytes:
    """The primaries and gamma of Adobe RGB (1998)."""
    tags = {
        name: _xyz(ADOBE_TO_XYZ[:, index]) for index, name in enumerate(("rXYZ", "gXYZ", "bXYZ"))
    }
    return _profile(
        "RGB ", "mntr", "XYZ ", {**tags, **dict.fromkeys(("rTRC", "gTRC", "bTRC"), _curve())}
    )


def grey_profile() -> bytes:
    """Grey with that gamma."""
    return _profile("GRAY", "mntr", "XYZ ", {"kTRC": _curve()})


def cmyk_profile() -> bytes:
    """White without ink, CYAN with cyan alone, black with anything else."""
    nodes = [(255, 128, 128), *[(0, 128, 128)] * 15]
    nodes[8] = (CYAN[0] * 255 // 100, CYAN[1] + 128, CYAN[2] + 128)  # cyan is the slowest
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(0x10000 if index % 4 == 0 else 0 for index in range(9)))
    table = b"".join(map(bytes, nodes))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + table + ramp * 3
    return _profile("CMYK", "prtr", "Lab ", {"A2B0": lut})


def adobe_to_srgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What colours with `rgb_profile` are in sRGB."""
    return encode_srgb((values / 255) ** GAMMA @ ADOBE_TO_XYZ.T)


def grey_to_srgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What levels with `grey_profile` are in sRGB."""
    return encode_srgb((values[..., None] / 255) ** GAMMA * D50)


def lab_to_srgb(lightness: float, a: float, b: float) -> NDArray[np.uint8]:
    """A CIELAB colour under D50 in sRGB."""
    middle = (lightness + 16) / 116
    roots = np.array([middle + a / 500, middle, middle - b / 200])
    return encode_srgb(
        np.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 3 * (6 / 29) ** 2) * D50
    )


def encode_srgb(xyz: _Floats) -> NDArray[np.uint8]:
    """Colours of XYZ under D50 as numbers of sRGB (IEC 61966-2-1)."""
    linear = np.clip(xyz @ np.linalg.inv(SRGB_TO_XYZ).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (encoded * 255).round().astype(np.uint8)


def _curve() -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(GAMMA * 256))


def _xyz(values: _Floats) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _profile(space: str, kind: str, connection: str, tags: Mapping[str, bytes]) -> bytes:
    tags = {
        "wtpt": _xyz(D50),
        "desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78),
        **tags,
    }
    position = 132 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += name.encode() + struct.pack(">II", position + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", position + len(content))
    header[8:12] = b"\x02\x10\0\0"
    header[12:24] = (kind + space + connection).encode()
    header[36:40] = b"acsp"
    header[68:80] = _xyz(D50)[8:]
    return bytes(header) + table + content
