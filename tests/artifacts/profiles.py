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
P3_TO_XYZ = np.array(
    [
        [0.5151187, 0.2919778, 0.1571035],
        [0.2411892, 0.6922441, 0.0665668],
        [-0.0010505, 0.0418791, 0.7840713],
    ]
)
"""Columns are the primaries, adapted to D50."""
GAMMA = 563 / 256
CYAN = (60, -30, -40)
"""Lab of full cyan in `cmyk_profile`."""


def rgb_profile() -> bytes:
    """The primaries and gamma of Adobe RGB (1998)."""
    return _matrix_profile(ADOBE_TO_XYZ, _curve())


def p3_profile() -> bytes:
    """The primaries of Display P3, and the curve of sRGB as a table."""
    levels = np.linspace(0, 1, 4096)
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    table = (linear * 65535).round().astype(">u2")
    return _matrix_profile(
        P3_TO_XYZ, b"curv" + bytes(4) + struct.pack(">I", len(table)) + table.tobytes()
    )


def grey_profile(curve: bytes | None = None) -> bytes:
    """Grey with that curve, or with that gamma."""
    return _profile("GRAY", "mntr", "XYZ ", {"kTRC": curve or _curve()})


def parametric_curve(*values: float) -> bytes:
    """A curve of the type that has so many parameters."""
    kind = (1, 3, 4, 5, 7).index(len(values))
    numbers = [round(value * 65536) for value in values]
    return b"para" + bytes(4) + struct.pack(f">HH{len(values)}i", kind, 0, *numbers)


def table_profile() -> bytes:
    """White is CYAN by its table; its curves and its matrix say otherwise."""
    node = bytes([CYAN[0] * 255 // 100, CYAN[1] + 128, CYAN[2] + 128])
    nodes = bytes([0, 128, 128]) * 7 + node
    return _matrix_profile(ADOBE_TO_XYZ, _curve(), {"A2B0": _table(3, nodes)})


def cmyk_profile() -> bytes:
    """White without ink, CYAN with cyan alone, black with anything else."""
    nodes = [(255, 128, 128), *[(0, 128, 128)] * 15]
    nodes[8] = (CYAN[0] * 255 // 100, CYAN[1] + 128, CYAN[2] + 128)  # cyan is the slowest
    return _profile("CMYK", "prtr", "Lab ", {"A2B0": _table(4, b"".join(map(bytes, nodes)))})


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
    return (encode_linear(xyz @ np.linalg.inv(SRGB_TO_XYZ).T) * 255).round().astype(np.uint8)


def encode_linear(light: _Floats) -> _Floats:
    """Light of sRGB's primaries as numbers of sRGB, 0 to 1."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _table(channels: int, nodes: bytes) -> bytes:
    """A table of 8 bits to Lab with two nodes for each channel."""
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(0x10000 if index % 4 == 0 else 0 for index in range(9)))
    return (
        b"mft1"
        + bytes(4)
        + bytes([channels, 3, 2, 0])
        + matrix
        + ramp * channels
        + nodes
        + ramp * 3
    )


def _matrix_profile(
    to_xyz: _Floats, curve: bytes, tags: Mapping[str, bytes] | None = None
) -> bytes:
    columns = {name: _xyz(to_xyz[:, index]) for index, name in enumerate(("rXYZ", "gXYZ", "bXYZ"))}
    curves = dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve)
    connection = "Lab " if tags else "XYZ "
    return _profile("RGB ", "mntr", connection, {**columns, **curves, **(tags or {})})


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
