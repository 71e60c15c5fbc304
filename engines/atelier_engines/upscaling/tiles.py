"""Splits a length into overlapping tiles, and computes the weights with which they are blended.

Everything here is one-dimensional: the tiles of an image are the product of its columns and its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The pixels `start` to `stop` of a side."""

    start: int
    stop: int


def split_into_tiles(length: int, *, size: int, overlap: int) -> tuple[Span, ...]:
    """Tiles of `size` pixels that cover `length` and overlap by at least `overlap`, in order.

    They are spread evenly. A length of at most `size` is one tile.
    """
    if length <= size:
        return (Span(start=0, stop=length),)
    count = -(-(length - overlap) // (size - overlap))
    starts = [(length - size) * number // (count - 1) for number in range(count)]
    return tuple(Span(start=start, stop=start + size) for start in starts)


def blend_weights(
    parts: tuple[Span, ...], *, overlap: int, scale: int
) -> tuple[NDArray[np.float32], ...]:
    """The weight of each tile at each of its pixels after upscaling by `scale`, 0 to 1.

    Overlapping tiles are cross-faded, and the weights sum to 1 everywhere. The outermost quarter of an overlap
    has weight 0: there a model saw the edge of the tile instead of the image.
    """
    length = parts[-1].stop * scale
    raw = [_ramp(part, parts, overlap=overlap, scale=scale) for part in parts]
    total = np.zeros(length, np.float64)
    for part, values in zip(parts, raw, strict=True):
        total[part.start * scale : part.stop * scale] += values
    return tuple(
        (values / total[part.start * scale : part.stop * scale]).astype(np.float32)
        for part, values in zip(parts, raw, strict=True)
    )


def _ramp(part: Span, parts: tuple[Span, ...], *, overlap: int, scale: int) -> NDArray[np.float64]:
    """1 inside, falling to 0 towards those ends that are not ends of the whole length."""
    places = (np.arange((part.stop - part.start) * scale) + 0.5) / scale
    margin, ramp = overlap / 4, overlap / 2
    values = np.ones_like(places)
    if part is not parts[0]:
        values = np.minimum(values, (places - margin) / ramp)
    if part is not parts[-1]:
        values = np.minimum(values, (part.stop - part.start - places - margin) / ramp)
    return np.maximum(values, 0.0)
