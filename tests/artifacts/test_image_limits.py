"""What the header of an image may ask for is bounded before anything is decoded: pixels, parts and texts."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from PIL import Image

from atelier_engines.decoding.header import UndecodableError, read_header, read_stored_size
from atelier_server.artifacts.decode import Decoder
from tests.artifacts.test_decode import FORMATS, file_of

_SIDE = 64
_MANY = 2**18
"""The most parts of a file."""


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """Takes one image of 64 x 64 pixels."""
    made = Decoder(max_pixels=_SIDE**2, max_bytes=2**24)
    yield made
    made.close()


def image(width: int, height: int, kind: str) -> bytes:
    """A file of that size."""
    return file_of(Image.new("RGB", (width, height), "red"), kind)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A good file with these chunks before its end."""
    whole = image(_SIDE, _SIDE, "PNG")
    end = whole.rindex(b"IEND") - 4
    made = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return whole[:end] + b"".join(made) + whole[end:]


def in_parts(kind: str, count: int) -> bytes:
    """A good file with so many parts more, none of which is needed."""
    whole = image(_SIDE, _SIDE, kind)
    match kind:
        case "PNG":
            return png(*[(b"teXt", b"")] * count)
        case "JPEG":
            return whole[:2] + b"\xff\xfe\x00\x02" * count + whole[2:]
        case "WEBP":
            parts = (b"none" + bytes(4)) * count
            size = struct.pack("<I", struct.unpack_from("<I", whole, 4)[0] + len(parts))
            return whole[:4] + size + whole[8:] + parts
        case _:
            first = struct.unpack_from(">I", whole)[0]
            return whole[:first] + struct.pack(">I4s", 8, b"free") * count + whole[first:]


@pytest.mark.parametrize("kind", FORMATS)
async def test_an_image_has_so_many_pixels_and_no_more(decoder: Decoder, kind: str) -> None:
    """As its header says, whatever its sides are."""
    assert (await decoder.read_header(image(2 * _SIDE, _SIDE // 2, kind))).pixels == _SIDE**2
    with pytest.raises(UndecodableError, match=r"at most 4096 pixels, not 64 x 65"):
        await decoder.read_header(image(_SIDE, _SIDE + 1, kind))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_of_very_many_parts_is_refused(kind: str) -> None:
    """Each takes a moment, and a file may have millions."""
    assert read_header(in_parts(kind, 10)).pixels == _SIDE**2
    with pytest.raises(UndecodableError, match="damaged"):
        read_header(in_parts(kind, _MANY))


def test_an_avif_file_of_very_many_boxes_has_no_size() -> None:
    """Only its size is read here: boxes before the others move what they point to."""
    assert read_stored_size(in_parts("AVIF", 10)) == (_SIDE, _SIDE)
    assert read_stored_size(in_parts("AVIF", _MANY)) is None


def test_text_of_an_image_unfolds_to_a_mebibyte_at_most() -> None:
    """A text chunk in which a program wrote EXIF: 64 KiB of the file are 64 MiB of spaces."""
    unfolded = 64 * 2**20
    data = png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(unfolded), 9)))
    tracemalloc.start()
    try:
        header = read_header(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.orientation == 1
    assert peak < unfolded // 4
