"""Takes a PNG file apart into what its pixels need and its ICC profile.

Pillow refuses files with much text, and those whose other ancillary chunks are broken, which libpng reads (PNG, third
edition, 13.2: such errors do not concern the pixels).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_PROFILE = b"iCCP"
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
"""What the pixels need; of an animation the image that readers without animations show."""
_MAX_PROFILE_BYTES = 2**24


def strip_png(data: bytes) -> tuple[bytes, bytes | None]:
    """The PNG file with nothing but its pixels, and its ICC profile, or None."""
    parts, profile, found = [memoryview(data)[:_SIGNATURE_BYTES]], None, False
    for name, start, end in _list_chunks(data):
        if name in _NEEDED:
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
