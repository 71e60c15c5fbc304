"""Corrects the pages of Ogg files that libsndfile writes.

Their serial number is random, so equal tasks would have unequal files. And a short Vorbis stream is one page, of which
readers cannot know whether samples are to be left out at its start or its end: ffmpeg 9.0 leaves out 128 at the start.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

_HEADER = struct.Struct("<4sBBqIIIB")
"""OggS, version, flags, granule position, serial number, page number, checksum, number of segments."""
_MAGIC = b"OggS"
_CHECKSUM = 22
"""Its offset in a page."""
_LACED = 255
"""A segment of this length does not end its packet."""
_LAST = 4  # flag
_NONE = -1  # position of a page on which no packet ends
_VORBIS_HEADERS = 3
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ONES = 0xFFFFFFFF
_CODECS = (b"\x01vorbis", b"OpusHead")
"""Beginnings of the first page's body."""
_OPUS, _INPUT_RATE, _RATE = b"OpusHead", 12, struct.Struct("<I")
"""Where the first packet of Opus says its rate before it was encoded; 0 leaves it open. Source: RFC 7845, 5.1."""
_OPUS_RATES = range(8000, 48001)
_MANY_STREAMS = "has more than one stream: send one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    flags: int
    granule: int
    """Number of samples that can be decoded up to here."""
    segments: bytes
    """Length of each."""
    body: bytes


def rewrite_ogg(file: bytes, serial: int, *, is_vorbis: bool) -> bytes:
    """The file of one stream with that serial number, 0 to 2**32 - 1; the first packet of Vorbis is a page of its own.

    Sources: RFC 3533, 6; Vorbis I, A.2: the first packet gives no samples, so its granule position is 0.
    """
    pages = list(_read_pages(file))
    if is_vorbis:
        pages = list(_split_first_audio_page(pages))
    return b"".join(_write_page(page, serial, number) for number, page in enumerate(pages))


def find_fault(file: bytes) -> str:
    """What keeps the file from being one whole stream of Vorbis or Opus; empty if nothing does.

    Readers of Ogg files leave out pages that are damaged or missing, and streams after the first.
    """
    start, serial, number, reached = 0, 0, 0, 0
    while start + _HEADER.size <= len(file):
        _, _, flags, granule, found_serial, found_number, _, count = _HEADER.unpack_from(
            file, start
        )
        body = start + _HEADER.size + count
        end = body + sum(file[start + _HEADER.size : body])
        if end > len(file):
            break
        if not start:
            serial, number = found_serial, found_number
            if not file.startswith(_CODECS, body):
                return (
                    "has neither Vorbis nor Opus in it: write it as one of them, or as WAV or FLAC"
                )
        if fault := _find_page_fault(file[start:end], serial, number):
            return fault
        if granule < reached and (granule != _NONE or flags & _LAST):
            return f"is damaged: page {number} ends before the one before it"
        reached = max(reached, granule)
        if flags & _LAST:
            return _MANY_STREAMS if file.startswith(_MAGIC, end) else ""
        start, number = end, number + 1
    return "is truncated: it ends before its samples do"


def state_rate(file: bytes) -> bytes:
    """The whole file; Opus that leaves its rate open says 48 kHz, its own rate, in it: libsndfile takes 8 kHz."""
    first = next(_read_pages(file))
    if not first.body.startswith(_OPUS) or len(first.body) < _INPUT_RATE + _RATE.size:
        return file
    if _RATE.unpack_from(first.body, _INPUT_RATE)[0] in _OPUS_RATES:
        return file
    body = bytearray(first.body)
    _RATE.pack_into(body, _INPUT_RATE, _OPUS_RATES[-1])
    _, _, _, _, serial, number, _, count = _HEADER.unpack_from(file)
    rest = file[_HEADER.size + count + len(body) :]
    return _write_page(replace(first, body=bytes(body)), serial, number) + rest


def _find_page_fault(page: bytes, serial: int, number: int) -> str:
    magic, _, _, _, found_serial, found_number, checksum, _ = _HEADER.unpack_from(page)
    if magic != _MAGIC:
        return f"is damaged: page {number} does not begin where it should"
    if _sum_up(bytearray(page[:_CHECKSUM] + bytes(4) + page[_CHECKSUM + 4 :])) != checksum:
        return f"is damaged: the checksum of page {found_number} is wrong"
    if found_serial != serial:
        return _MANY_STREAMS
    return "" if found_number == number else f"is damaged: page {number} is missing"


def _read_pages(file: bytes) -> Iterator[_Page]:
    start = 0
    while start < len(file):
        _, _, flags, granule, _, _, _, count = _HEADER.unpack_from(file, start)
        table = start + _HEADER.size
        segments = file[table : table + count]
        body = table + count
        start = body + sum(segments)
        yield _Page(flags=flags, granule=granule, segments=segments, body=file[body:start])


def _split_first_audio_page(pages: list[_Page]) -> Iterator[_Page]:
    packets = 0
    for page in pages:
        ended = sum(length < _LACED for length in page.segments)
        if packets == _VORBIS_HEADERS and ended > 1:
            yield from _split(page)
        else:
            yield page
        packets += ended


def _split(page: _Page) -> Iterator[_Page]:
    """The first packet of the page, and the others."""
    count = next(index for index, length in enumerate(page.segments) if length < _LACED) + 1
    length = sum(page.segments[:count])
    yield _Page(
        flags=page.flags & ~_LAST,
        granule=0,
        segments=page.segments[:count],
        body=page.body[:length],
    )
    yield replace(page, segments=page.segments[count:], body=page.body[length:])


def _write_page(page: _Page, serial: int, number: int) -> bytes:
    count = len(page.segments)
    head = _HEADER.pack(_MAGIC, 0, page.flags, page.granule, serial, number, 0, count)
    written = bytearray(head + page.segments + page.body)
    struct.pack_into("<I", written, _CHECKSUM, _sum_up(written))
    return bytes(written)


def _sum_up(page: bytearray) -> int:
    """The CRC-32 of Ogg: the polynomial of zlib, but most significant bit first, from 0, not inverted at the end."""
    mirrored = zlib.crc32(page.translate(_REVERSED), _ONES) ^ _ONES
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED))
