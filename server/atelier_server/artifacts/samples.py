"""Reduces what Pillow reads of a file to 8 bits a channel, and leaves out text that no pixel needs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_SIGNATURE_BYTES = 8
_PROFILE = b"iCCP"
_UNNEEDED = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", _PROFILE}
_MAX_PROFILE_BYTES = 2**24
_DEPTH_OFFSET = 24  # of the bits of a sample in a PNG file
_SCALE_16 = 257  # 65535 / 255


def read_png_depth(data: bytes) -> int:
    """Bits of each sample of a PNG file."""
    return data[_DEPTH_OFFSET]


def drop_png_text(data: bytes) -> tuple[bytes, bytes | None]:
    """The PNG file without text and profile, and its ICC profile, or None; Pillow refuses files with much text."""
    parts, profile, found = [memoryview(data)[:_SIGNATURE_BYTES]], None, False
    for name, start, end in _list_chunks(data):
        if name not in _UNNEEDED:
            parts.append(memoryview(data)[start:end])
            continue
        found = True
        if name == _PROFILE:
            profile = _read_profile(data[start + 8 : end - 4])
    return (b"".join(parts) if found else data), profile


def _list_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk, length and checksum included."""
    position = _SIGNATURE_BYTES
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, position, position + length + 12
        if name == b"IEND":
            return
        position += length + 12


def _read_profile(body: bytes) -> bytes | None:
    """The profile of an iCCP chunk; None if it is broken or too long."""
    packed = body[body.find(b"\0") + 2 :]
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(packed, _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def reduce_samples(image: Image.Image, depth: int = 8) -> Image.Image:
    """The image in mode L, LA, RGB, RGBA or CMYK, with 8 bits a channel.

    Args:
        image: as Pillow reads it from its file.
        depth: bits of a sample in the file: Pillow leaves the transparent colour of a PNG file in those.
    """
    if image.mode.startswith("I"):
        return _reduce_grey(image)
    transparent = image.info.get("transparency")
    if image.mode == "1":  # Pillow has scaled its transparent colour already
        image, depth = image.convert("L"), 8
    if transparent is not None and image.mode in {"L", "RGB"}:
        image = image.copy()
        image.info["transparency"] = _scale(transparent, depth)
    grey = image.mode in {"L", "LA"}
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    return image if grey or image.mode in {"RGB", "CMYK"} else image.convert("RGB")


def _reduce_grey(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits."""
    wide = np.asarray(image).astype(np.uint32)
    reduced = Image.fromarray(((wide + _SCALE_16 // 2) // _SCALE_16).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        reduced.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return reduced


def _scale(transparent: int | tuple[int, ...], depth: int) -> int | tuple[int, ...]:
    """A transparent colour of samples of that many bits, for samples of eight."""
    if isinstance(transparent, tuple):
        return tuple(_scale_sample(sample, depth) for sample in transparent)
    return _scale_sample(transparent, depth)


def _scale_sample(sample: int, depth: int) -> int:
    if depth > 8:  # noqa: PLR2004 (Pillow keeps the upper eight bits)
        return sample >> (depth - 8)
    return sample * 255 // ((1 << depth) - 1)
