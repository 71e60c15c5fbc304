"""Tiles cover a picture, fade into each other, and are joined and resized row by row."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atelier_engines.upscaling.resizing import RowResizer
from atelier_engines.upscaling.tile_stitching import TileStitcher
from atelier_engines.upscaling.tiles import blend_weights, split_into_tiles

lengths = st.integers(1, 700)
sizes = st.integers(64, 256)
overlaps = st.integers(8, 32)


@given(length=lengths, size=sizes, overlap=overlaps)
def test_parts_cover_the_whole_and_overlap(length: int, size: int, overlap: int) -> None:
    """Each has the full size, but for a whole that is smaller."""
    parts = split_into_tiles(length, size=size, overlap=overlap)
    assert (parts[0].start, parts[-1].stop) == (0, length)
    assert {part.stop - part.start for part in parts} == {min(size, length)}
    for before, after in pairwise(parts):
        assert before.start < after.start
        assert before.stop - after.start >= overlap


@given(length=lengths, size=sizes, overlap=overlaps, scale=st.integers(1, 4))
def test_shares_sum_to_one_and_hide_the_cuts(
    length: int, size: int, overlap: int, scale: int
) -> None:
    """At each pixel; the outermost quarter of an overlap shows nothing of its part."""
    parts = split_into_tiles(length, size=size, overlap=overlap)
    total = np.zeros(length * scale)
    hidden = overlap * scale // 4
    for part, share in zip(parts, blend_weights(parts, overlap=overlap, scale=scale), strict=True):
        assert share.min() >= 0.0
        assert share.max() <= 1.0
        total[part.start * scale : part.stop * scale] += share
        if part.start:
            assert not share[:hidden].any()
        if part.stop < length:
            assert not share[len(share) - hidden :].any()
    assert np.abs(total - 1.0).max() < 1e-6


@pytest.mark.parametrize("size", [(40, 30), (200, 150), (150, 64)])
def test_a_picture_cut_into_tiles_is_joined_again(size: tuple[int, int]) -> None:
    """To the level, every row once, and as early as no later tile touches it."""
    width, height = size
    whole = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    columns, rows = (
        split_into_tiles(width, size=64, overlap=16),
        split_into_tiles(height, size=64, overlap=16),
    )
    mosaic = TileStitcher(columns, rows, overlap=16, scale=1)
    bands = []
    for row, down in enumerate(rows):
        for column, across in enumerate(columns):
            cut = whole[down.start : down.stop, across.start : across.stop]
            mosaic.add(row, column, (cut / 255.0).astype(np.float32))
        bands.append(mosaic.take_finished(row))
    assert np.array_equal(np.concatenate(bands), whole)
    assert len(bands[0]) == (rows[1].start if len(rows) > 1 else height)


@settings(max_examples=60)
@given(
    source=st.tuples(st.integers(8, 60), st.integers(8, 300)),
    ratio=st.floats(0.15, 3.0),
    parts=st.lists(st.integers(1, 90), min_size=20, max_size=20),
)
def test_rows_are_resized_as_the_whole_picture_would_be(
    source: tuple[int, int], ratio: float, parts: list[int]
) -> None:
    """Smaller and larger, in bands of any height: the same but for rounding, by a level."""
    target = (max(1, round(source[0] * ratio)), max(1, round(source[1] * ratio)))
    whole = np.random.default_rng(2).integers(0, 256, (source[1], source[0], 3), np.uint8)
    resizer = RowResizer(source, target)
    start = 0
    for part in [*parts, source[1]]:
        if start < source[1]:
            resizer.add(whole[start : start + part])
            start += part
    across = Image.fromarray(whole).resize((target[0], source[1]), Image.Resampling.LANCZOS)
    wanted = np.asarray(across.resize(target, Image.Resampling.LANCZOS))
    assert np.abs(resizer.result().astype(int) - wanted.astype(int)).max() <= 1


def test_resizing_holds_few_rows() -> None:
    """What no later row looks at is let go."""
    resizer = RowResizer((10, 4000), (5, 2000))
    for _ in range(40):
        resizer.add(np.zeros((100, 10, 3), np.uint8))
        assert len(resizer._held) < 150
