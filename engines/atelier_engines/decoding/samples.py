"""Reads the samples of image files: colours and opacity in rows, as many bits as the file has."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Samples: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

_WIDE_SCALE = 257  # 65535 / 255
_COLOR_TYPE_OFFSET, _DEPTH_OFFSET = 25, 24  # in a PNG file
_BITS = 8  # of what Pillow reads

# How Pillow's decoder stores the bytes of a row, by colour type. Files are big-endian: what it takes for the upper byte
# of little-endian samples is the lower one. Grey with alpha are two pairs of bytes, which fit a pixel of RGBA.
_WIDE_MODES = {
    0: ("I;16B",),
    2: ("RGB;16B", "RGB;16L"),
    4: ("RGBA",),
    6: ("RGBA;16B", "RGBA;16L"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Rows of an image as its file has them."""

    colors: Samples
    """(rows, width, channels): grey, RGB, or CMYK with 255 for full ink."""
    alpha: Samples | None
    """(rows, width, 1); None if all is opaque."""


class StoredImage(Protocol):
    """An image that has been decoded."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""

    @property
    def profile(self) -> bytes | None:
        """The ICC profile that Pillow has found."""

    def read_rows(self, top: int, bottom: int) -> Rows:
        """Rows of it."""


def open_image(data: bytes, file_format: str) -> StoredImage:
    """Decode the file, which takes up to 8 bytes a pixel."""
    if file_format == "PNG" and data[_DEPTH_OFFSET] > _BITS:
        return _WideImage(data)
    return _PlainImage(data, file_format)


def reduce_depth(samples: Samples) -> NDArray[np.uint8]:
    """Samples in 8 bits: of 16, 65535 becomes 255."""
    if samples.dtype == np.uint8:
        return samples.astype(np.uint8, copy=False)
    return ((samples.astype(np.uint32) + _WIDE_SCALE // 2) // _WIDE_SCALE).astype(np.uint8)


class _PlainImage:
    """An image of at most 8 bits a sample, as Pillow reads it."""

    def __init__(self, data: bytes, file_format: str) -> None:
        with Image.open(io.BytesIO(data), formats=[file_format]) as image:
            image.load()
        self._image = image
        self._depth = data[_DEPTH_OFFSET] if file_format == "PNG" else _BITS
        self.size = image.size
        self.profile: bytes | None = image.info.get("icc_profile")

    def read_rows(self, top: int, bottom: int) -> Rows:
        """Colours of palettes are looked up, and of grey ones the depth is made 8 bits."""
        strip = self._expand(self._image.crop((0, top, self._image.width, bottom)))
        samples = np.asarray(strip).reshape(bottom - top, strip.width, -1)
        if strip.mode.endswith("A"):
            return Rows(colors=samples[:, :, :-1], alpha=samples[:, :, -1:])
        return Rows(colors=samples, alpha=None)

    def _expand(self, image: Image.Image) -> Image.Image:
        """The image in mode L, LA, RGB, RGBA or CMYK."""
        depth, transparent = self._depth, image.info.get("transparency")
        if image.mode == "1":  # Pillow has scaled its transparent colour already
            image, depth = image.convert("L"), _BITS
        if transparent is not None and image.mode == "L":
            image = image.copy()
            image.info["transparency"] = transparent * 255 // ((1 << depth) - 1)
        grey = image.mode in {"L", "LA"}
        if image.has_transparency_data:
            return image.convert("LA" if grey else "RGBA")
        return image if grey or image.mode in {"RGB", "CMYK"} else image.convert("RGB")


class _WideImage:
    """A PNG image of 16 bits a sample, of which Pillow by itself keeps the upper eight."""

    def __init__(self, data: bytes) -> None:
        modes = _WIDE_MODES[data[_COLOR_TYPE_OFFSET]]
        self._images = [self._load(data, mode) for mode in modes]
        info = self._images[0].info
        self.size = self._images[0].size
        self.profile: bytes | None = info.get("icc_profile")
        self._transparent: int | tuple[int, ...] | None = info.get("transparency")

    def read_rows(self, top: int, bottom: int) -> Rows:
        """Of an image with a transparent colour that colour has no opacity."""
        samples = self._read_samples(top, bottom)
        if samples.shape[2] in {2, 4}:
            return Rows(colors=samples[:, :, :-1], alpha=samples[:, :, -1:])
        if self._transparent is None:
            return Rows(colors=samples, alpha=None)
        same = np.all(samples == np.array(self._transparent), axis=2, keepdims=True)
        return Rows(colors=samples, alpha=np.where(same, 0, 255).astype(np.uint8))

    def _read_samples(self, top: int, bottom: int) -> NDArray[np.uint16]:
        parts = [
            np.asarray(image.crop((0, top, image.width, bottom))).astype(np.uint16)
            for image in self._images
        ]
        if len(parts) > 1:
            return _join(*parts)
        pixels = parts[0].reshape(bottom - top, self.size[0], -1)
        return pixels if pixels.shape[2] == 1 else _join(pixels[:, :, ::2], pixels[:, :, 1::2])

    @staticmethod
    def _load(data: bytes, raw_mode: str) -> Image.Image:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
            image.load()
        return image


def _join(upper: NDArray[np.uint16], lower: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.bitwise_or(np.left_shift(upper, 8), lower, dtype=np.uint16)
