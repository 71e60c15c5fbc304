"""Converts images to sRGB by the ICC profile that their file contains (ICC.1:2022)."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image, ImageCms

_CREATED = slice(24, 36)  # date and time in a profile's header
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_GRID = 17  # levels of each channel at which a profile is compared with sRGB


class ColorConverter:
    """Converts images of one file to sRGB; images of a profile that is broken or does not fit them stay unchanged."""

    def __init__(self, profile: bytes | None) -> None:
        """Of `profile`, or None where the file has none: its numbers are sRGB."""
        self._profile = profile
        self._transform: ImageCms.ImageCmsTransform | None = None
        self._space = ""
        if profile:
            self._read(profile)

    def convert(self, image: Image.Image) -> Image.Image:
        """The image, of mode L, LA, RGB, RGBA or CMYK, in sRGB; alpha is kept."""
        color = image.mode.removesuffix("A")
        if self._transform is None or (color == "CMYK") != (self._space == "CMYK"):
            return image
        if self._space == "L" and color != "L":
            return image  # a grey profile says nothing of colours
        source = image.convert(self._space)
        converted = ImageCms.applyTransform(source, self._transform)
        if converted is None:
            raise TypeError("a transform into a new image returns the image")
        if image.mode.endswith("A"):
            converted.putalpha(image.getchannel("A"))
        return converted

    def _read(self, profile: bytes) -> None:
        try:
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = _SPACES.get(opened.profile.xcolor_space, "")
            if not space:
                return
            transform = ImageCms.buildTransform(opened, _srgb(), space, "RGB")
        except (ImageCms.PyCMSError, OSError):
            return
        if not (space == "RGB" and _is_identity(transform)):
            self._space, self._transform = space, transform


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


def _is_identity(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it changes no colour by more than the rounding of the computation: the profile is that of sRGB."""
    levels = np.linspace(0, 255, _GRID).round().astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(_GRID, -1, 3)
    converted = ImageCms.applyTransform(Image.fromarray(colors), transform)
    change = np.asarray(converted).astype(int) - colors
    return int(np.abs(change).max()) <= 1
