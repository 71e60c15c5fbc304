"""Writes PNG files of every colour type, depth, filter and interlacing (Portable Network Graphics, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type."""
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample, by colour type."""
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
_PASSES = (*_ADAM7, (1, 0, 2, 1))  # first row, first column, and how many on to the next ones
_FILTERS = 5

Samples = NDArray[np.uint16]


def write_png(
    samples: Samples, kind: int, depth: int, *chunks: bytes, interlaced: bool = False, seed: int = 0
) -> bytes:
    """A PNG file of samples in (height, width, channels), with `chunks` before the image data.

    Every row has a filter of its own, chosen by chance.
    """
    height, width, _ = samples.shape
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    rng = np.random.default_rng(seed)
    rows = b"".join(
        _write_rows(samples[top::down, left::right], depth, rng)
        for top, left, down, right in passes
    )
    made = [write_chunk(b"IHDR", header), *chunks]
    made += [write_chunk(b"IDAT", zlib.compress(rows)), write_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def write_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def write_profile(profile: bytes) -> bytes:
    """The chunk of an ICC profile."""
    return write_chunk(b"iCCP", b"some\0\0" + zlib.compress(profile))


def _write_rows(samples: Samples, depth: int, rng: np.random.Generator) -> bytes:
    if not samples.size:
        return b""  # a pass of an image that is too small for it
    height, _, channels = samples.shape
    packed = _pack(samples.reshape(height, -1), depth).astype(int)
    step = max(1, channels * depth // 8)
    above = np.vstack([np.zeros_like(packed[:1]), packed[:-1]])
    filters = [int(kind) for kind in rng.integers(0, _FILTERS, (height,))]
    return b"".join(
        bytes([kind, *_filter(kind, row, before, step)])
        for kind, row, before in zip(filters, list(packed), list(above), strict=True)
    )


def _pack(rows: NDArray[np.uint16], depth: int) -> NDArray[np.uint8]:
    """Samples as bytes: two of each, one, or several in one."""
    if depth > 8:
        return rows.astype(">u2").view(np.uint8)
    bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return np.packbits(bits.reshape(len(rows), -1), axis=-1)


def _filter(kind: int, row: NDArray[np.int_], above: NDArray[np.int_], step: int) -> Iterator[int]:
    """The bytes of a row less what its filter predicts (9.2)."""
    left = np.concatenate([np.zeros(step, int), row[:-step]])[: len(row)]
    corner = np.concatenate([np.zeros(step, int), above[:-step]])[: len(row)]
    for value, a, b, c in zip(
        row.tolist(), left.tolist(), above.tolist(), corner.tolist(), strict=True
    ):
        nearest = min((a, b, c), key=lambda sample: abs(a + b - c - sample))
        yield (value - (0, a, b, (a + b) // 2, nearest)[kind]) % 256
