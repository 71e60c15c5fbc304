"""Converts colours to sRGB by the ICC profile that their file contains (ICC.1:2022)."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from atelier_engines.decoding.matrix_profiles import MatrixProfile, read_matrix_profile
from atelier_engines.decoding.samples import Samples, reduce_depth

_CREATED = slice(24, 36)  # date and time in a profile's header
_SPACE = slice(16, 20)
_CHANNELS = {b"GRAY": 1, b"RGB ": 3, b"CMYK": 4}
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_GRID = 17  # levels of each channel at which a profile is compared with sRGB


class ColorConverter:
    """Converts colours of one file to sRGB; those of a profile that is broken or does not fit them stay unchanged."""

    def __init__(self, profile: bytes | None) -> None:
        """Of `profile`, or None where the file has none: its numbers are sRGB."""
        self._channels = 0  # of a profile that changes something
        self._matrix: MatrixProfile | None = None
        self._transform: ImageCms.ImageCmsTransform | None = None
        if profile:
            self._read(profile)

    def convert(self, colors: Samples) -> NDArray[np.uint8]:
        """Colours of (height, width, channels) in sRGB, grey or RGB, in 8 bits: 1, 3 or, of CMYK, 4 channels."""
        channels = colors.shape[2]
        if channels == 1 and self._channels == len("RGB"):
            colors, channels = colors[:, :, [0, 0, 0]], self._channels
        if channels != self._channels:  # for instance a grey profile, which says nothing of colours
            reduced = reduce_depth(colors)
            return reduced if channels < len("CMYK") else np.asarray(_image(reduced).convert("RGB"))
        if self._matrix is not None:
            return self._matrix.convert(colors)
        if self._transform is None:
            raise RuntimeError("a profile has a matrix or a transform")
        return np.asarray(ImageCms.applyTransform(_image(reduce_depth(colors)), self._transform))

    def _read(self, profile: bytes) -> None:
        channels = _CHANNELS.get(profile[_SPACE], 0)
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            transform = ImageCms.buildTransform(opened, _srgb(), _MODES[channels], "RGB")
        except (ImageCms.PyCMSError, OSError, KeyError):
            return
        if not (channels == len("RGB") and _is_identity(transform)):
            self._channels, self._transform = channels, transform
            self._matrix = read_matrix_profile(profile, srgb_profile())


def srgb_profile() -> bytes:
    """An ICC profile of sRGB, always the same bytes."""
    return _srgb_bytes()


@cache
def _srgb_bytes() -> bytes:
    made = bytearray(_srgb().tobytes())
    made[_CREATED] = bytes.fromhex("07d0 0001 0001 0000 0000 0000")  # 2000-01-01
    return bytes(made)


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _image(samples: NDArray[np.uint8]) -> Image.Image:
    height, width, channels = samples.shape
    return Image.frombytes(_MODES[channels], (width, height), samples.tobytes())


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it changes no colour by more than the rounding of the computation: the profile is that of sRGB."""
    levels = np.linspace(0, 255, _GRID).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(_GRID, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colors), transform)
    change = np.asarray(converted).astype(int) - colors
    return int(np.abs(change).max()) <= 1
