"""Valid image files of every form have the pixels that libvips finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atelier_engines.decoding.header import read_header
from atelier_engines.decoding.pixels import decode_image
from tests.artifacts.profiles import encode_linear
from tests.artifacts.readers.image_files import make_files
from tests.artifacts.readers.session import needs_readers, run_session

LUMA = np.array([0.299, 0.587, 0.114])

_Floats = NDArray[np.float64]


def read_samples(path: Path, told: dict[str, Any]) -> _Floats:
    """Colours of sRGB and alpha of the image, 0 to 1, in four channels."""
    height, width = told["size"]
    samples = np.fromfile(path, np.float32).reshape(height, width, 4).astype(np.float64)
    if told["linear"]:
        samples[:, :, :3] = encode_linear(samples[:, :, :3])
    return samples


def find_difference(data: bytes, read: _Floats) -> float:
    """The most by which the image and the mask that engines get differ from what was read, of 255."""
    colors, alpha = read[:, :, :3] * 255, read[:, :, 3:]
    decoded = decode_image(data, read_header(data), ["RGB", "L"])
    image, mask = decoded["RGB"].array, decoded["L"].array[:, :, 0]
    assert image.shape == colors.shape
    on_white = np.abs(image - (colors * alpha + 255 * (1 - alpha))).max()
    on_black = np.abs(mask - (colors * alpha) @ LUMA).max()
    return float(max(on_white, on_black))


def limit(told: dict[str, Any]) -> float:
    """1 of 255, half of one for rounding, and the error of what comes by way of XYZ, which has 16 bits."""
    return 1.7 if told["linear"] else 1.5


@needs_readers
@pytest.mark.parametrize("seed", [1])
async def test_pixels_are_those_of_libvips(seed: int, tmp_path: Path) -> None:
    """Within 1 of 255, on white, and as a mask on black."""
    files = make_files(seed)
    assert len(files) > 200
    source, target = tmp_path / "files", tmp_path / "samples"
    for folder in (source, target):
        folder.mkdir()
    for name, data in files.items():
        (source / name).write_bytes(data)
    told = await run_session("pixels_session.py", source, target)
    assert [f"{name}: {found['error']}" for name, found in told.items() if "error" in found] == []
    found = {
        name: find_difference(data, read_samples(target / name, told[name]))
        for name, data in files.items()
    }
    assert {name: most for name, most in found.items() if most > limit(told[name])} == {}
