"""Previews of audio are its waveform, in the share of the width that is made."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.waveform import preview_waveform


def heights(samples: NDArray[np.float32], share: float) -> NDArray[np.int_]:
    """How many rows of each column are drawn."""
    preview = preview_waveform(samples, share)
    assert (preview.media_type, preview.width, preview.height) == ("image/jpeg", 256, 64)
    pixels = np.asarray(Image.open(io.BytesIO(preview.data)).convert("L"))
    drawn: NDArray[np.int_] = (pixels > 90).sum(axis=0)
    return drawn


def test_columns_are_as_high_as_their_peaks() -> None:
    """Of the louder channel; silence is a line of nothing."""
    samples = np.zeros((100_000, 2), np.float32)
    samples[:25_000, 1] = np.resize([1.0, -1.0], 25_000)
    samples[50_000:75_000, 0] = 0.5
    found = heights(samples, 1.0)
    assert found[:60].min() >= 62
    assert found[70:120].max() == 0
    assert 28 <= found[135:185].min() <= found[135:185].max() <= 36
    assert found[200:].max() == 0


@pytest.mark.parametrize("length", [1, 50, 300, 44_100])
def test_what_is_not_made_yet_is_empty(length: int) -> None:
    """Also of fewer samples than there are columns."""
    found = heights(np.ones((length, 1), np.float32), 0.5)
    assert found[:120].min() >= 62
    assert found[136:].max() == 0


def test_without_samples_there_is_nothing_to_see() -> None:
    """It is an image all the same, and small."""
    assert heights(np.zeros((0, 2), np.float32), 0.0).max() == 0
    noise = np.random.default_rng(1).uniform(-1, 1, (100_000, 2)).astype(np.float32)
    assert len(preview_waveform(noise, 1.0).data) < 8000
