"""Reads what the header of an image file tells, and whether the file is whole, without decoding a pixel.

Decoders allocate the canvas of a WebP file when they open it, so these headers are read here. Sources: PNG, third
edition, chapter 5; ITU-T T.81, annex B (JPEG); RFC 9649 (WebP).
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image

from atelier_engines.decoding.av1 import find_largest_frame
from atelier_engines.decoding.avif import find_stated_size, list_payloads

_MAX_PARTS = (
    2**18
)  # chunks, segments or boxes; a file of 256 MiB in chunks of 8 KiB has an eighth of them
_MAX_PROFILE_BYTES = 2**20
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PROFILE = b"Raw profile type exif\0"  # written by ImageMagick before PNG had a chunk for it
_PNG_XMP = b"XML:com.adobe.xmp\0"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_JPEG_SCAN, _JPEG_END, _JPEG_APP1, _JPEG_FILL = 0xDA, 0xD9, 0xE1, 0xFF
_AVIF_BRANDS = {b"avif", b"avis"}
_ORIENTATION = re.compile(rb"tiff:Orientation(?:=['\"]|>)([1-8])")
_SIDEWAYS = 5  # from this EXIF orientation on, width and height change places


class UndecodableError(ValueError):
    """The bytes are not an image of a supported format; the message says why."""


class _BrokenError(Exception):
    """The file ends before it is complete, or its structure is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What the header of an image file tells."""

    format: str
    """PNG, JPEG, WEBP or AVIF."""
    stored_width: int
    """Pixels in a row of the file; of the canvas, if it is animated."""
    stored_height: int
    """Rows of the file."""
    orientation: int = 1
    """EXIF orientation, 1 to 8, which has not been applied to the stored size."""
    largest_frame: tuple[int, int] = (0, 0)
    """What its compressed data may have, where the file need not state that: the decoder allocates it."""

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Width and height of the most that is decoded, as stored."""
        return max((self.stored_width, self.stored_height), self.largest_frame, key=math.prod)

    @property
    def pixels(self) -> int:
        """Number of pixels of that."""
        return math.prod(self.decoded_size)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height when the orientation is applied."""
        size = self.stored_width, self.stored_height
        return size if self.orientation < _SIDEWAYS else size[::-1]


def read_header(data: bytes) -> ImageHeader:
    """The header of a whole image file. Blocks for a moment: call it in a thread.

    Raises:
        UndecodableError: not a PNG, JPEG, WebP or AVIF file, or it is truncated or damaged.
    """
    try:
        header = _read(data, whole=True)
    except (_BrokenError, struct.error, IndexError) as error:
        msg = "the image is damaged or truncated: send the whole file"
        raise UndecodableError(msg) from error
    if header is None or not header.pixels:
        msg = "not a PNG, JPEG, WebP or AVIF image"
        raise UndecodableError(msg)
    return header


def read_stored_size(start: bytes) -> tuple[int, int] | None:
    """Width and height in the header of an image file, of which the start is enough; None if there is none."""
    try:
        header = _read(start, whole=False)
    except (_BrokenError, struct.error, IndexError):
        return None
    return (header.stored_width, header.stored_height) if header and header.pixels else None


def _read(data: bytes, *, whole: bool) -> ImageHeader | None:
    if data.startswith(_PNG_SIGNATURE):
        return _read_png(data, whole=whole)
    if data.startswith(b"\xff\xd8\xff"):
        return _read_jpeg(data, whole=whole)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _read_webp(data, whole=whole)
    if data[4:8] == b"ftyp" and _AVIF_BRANDS & _list_brands(data):
        return _read_avif(data, whole=whole)
    return None


def _read_png(data: bytes, *, whole: bool) -> ImageHeader:
    width, height = struct.unpack_from(">4x4sII", data, len(_PNG_SIGNATURE))[1:]
    orientation, end = 1, False
    for name, body in _list_png_chunks(data) if whole else ():
        if name == b"eXIf":
            orientation = _find_orientation(exif=body)
        elif name in {b"zTXt", b"tEXt"} and body.startswith(_PNG_PROFILE):
            orientation = _find_orientation(exif=_read_png_profile(name, body))
        elif name == b"iTXt" and body.startswith(_PNG_XMP) and orientation == 1:
            orientation = _find_orientation(xmp=body)
        end = name == b"IEND"
    if whole and not end:
        raise _BrokenError
    return ImageHeader(
        format="PNG", stored_width=width, stored_height=height, orientation=orientation
    )


def _list_png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk; of image data, which may be large, an empty one."""
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        position = start + length + 4
        if position > len(data):
            raise _BrokenError
        yield name, b"" if name in {b"IDAT", b"fdAT"} else data[start : start + length]
        if name == b"IEND":
            return
    raise _BrokenError


def _read_png_profile(name: bytes, body: bytes) -> bytes:
    """EXIF from a text chunk: its length and hexadecimal digits, in lines."""
    text = body[len(_PNG_PROFILE) :]
    try:
        if name == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE_BYTES)
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except (zlib.error, ValueError):
        return b""


def _read_jpeg(data: bytes, *, whole: bool) -> ImageHeader:
    width = height = 0
    exif = xmp = b""
    for marker, position in _list_jpeg_segments(data):
        (length,) = struct.unpack_from(">H", data, position)
        body = data[position + 2 : position + length]
        if marker in _JPEG_FRAMES and not width:
            height, width = struct.unpack_from(">xHH", body)
        elif marker == _JPEG_APP1 and body.startswith(b"Exif\0"):
            exif = exif or body
        elif marker == _JPEG_APP1 and body.startswith(_JPEG_XMP):
            xmp = body
        elif marker in _JPEG_FRAMES:
            raise _BrokenError
        elif marker == _JPEG_SCAN:
            # Bytes that look like the end marker do not occur in compressed data.
            if whole and data.rfind(b"\xff\xd9", position) < 0:
                raise _BrokenError
            break
        if width and not whole:
            break
    return ImageHeader(
        format="JPEG",
        stored_width=width,
        stored_height=height,
        orientation=_find_orientation(exif=exif, xmp=xmp),
    )


def _list_jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment and the position of its length, up to the first scan.

    Bytes between segments are skipped, as libjpeg does.
    """
    position = 2
    for _ in range(_MAX_PARTS):
        position = data.find(_JPEG_FILL, position)
        if position < 0:
            raise _BrokenError
        marker = data[position + 1]
        if marker == _JPEG_FILL:
            position += 1
        elif not marker or marker in _JPEG_ALONE:  # a stuffed byte, as in compressed data
            position += 2
        elif marker == _JPEG_END:
            raise _BrokenError
        else:
            yield marker, position + 2
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise _BrokenError


def _read_webp(data: bytes, *, whole: bool) -> ImageHeader:
    exif = xmp = b""
    has_image = False
    for name, body in _list_webp_chunks(data) if whole else ():
        has_image = has_image or name in {b"VP8 ", b"VP8L", b"ANMF"}
        exif = exif or (body if name == b"EXIF" else b"")
        xmp = xmp or (body if name == b"XMP " else b"")
    if whole and not has_image:
        raise _BrokenError
    width, height = _read_webp_canvas(data)
    return ImageHeader(
        format="WEBP",
        stored_width=width,
        stored_height=height,
        orientation=_find_orientation(exif=exif, xmp=xmp),
    )


def _list_webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each chunk; of metadata alone, since the others may be large."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise _BrokenError
    position = 12
    for _ in range(_MAX_PARTS):
        if position >= end:
            return
        name, length = struct.unpack_from("<4sI", data, position)
        start = position + 8
        position = start + length + length % 2
        if start + length > end:
            raise _BrokenError
        yield name, data[start : start + length] if name in {b"EXIF", b"XMP "} else b""
    raise _BrokenError


def _read_webp_canvas(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            fields = struct.unpack_from("<HBHB", data, 24)
            return fields[0] + (fields[1] << 16) + 1, fields[2] + (fields[3] << 16) + 1
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            raise _BrokenError


def _list_brands(data: bytes) -> set[bytes]:
    length = min(int.from_bytes(data[:4]), 4096)
    return {data[start : start + 4] for start in range(8, length, 4)}


def _read_avif(data: bytes, *, whole: bool) -> ImageHeader:
    width, height = find_stated_size(data, whole=whole)
    if not whole:
        return ImageHeader(format="AVIF", stored_width=width, stored_height=height)
    try:  # its decoder allocates nothing until it decodes, and knows which size and rotation belong to the main image
        with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
            width, height = image.size
            exif, xmp = (image.info.get(name, b"") for name in ("exif", "xmp"))
    except Exception as error:  # decoders raise errors of any type on damaged files
        raise _BrokenError from error
    orientation = _find_orientation(exif=exif, xmp=xmp)
    return ImageHeader(
        format="AVIF",
        stored_width=width,
        stored_height=height,
        orientation=orientation,
        largest_frame=find_largest_frame(list_payloads(data)),
    )


def _find_orientation(exif: bytes = b"", xmp: bytes = b"") -> int:
    """The orientation that EXIF names, else that in XMP; 1 if neither has a valid one."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        found: object = tags.get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 (whatever is wrong with metadata, the image may be right)
        found = None
    if found is None and (match := _ORIENTATION.search(xmp)) is not None:
        return int(match[1])
    return found if isinstance(found, int) and found in range(1, 9) else 1
