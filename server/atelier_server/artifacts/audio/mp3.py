"""Checks MP3 files that callers send: decoders only guess how long one without a header of its length is.

Sources: ISO/IEC 11172-3, 2.4.1.3 and 13818-3, 2.4.2.3 (frames); the Xing header as LAME 3.100 writes it (VbrTag.c);
ID3v2.4, 3.1; ID3v1; APEv2.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

_TAG_SIZE = 10
_MAX_TAGS = 16
_HAS_FOOTER = 0x10
"""Of the flags of a tag: as many bytes follow it as its header has."""
_ZEROS = re.compile(rb"\0*")
_MPEG_1, _MPEG_2, _RESERVED, _MPEG_2_5 = 3, 2, 1, 0
_LAYER_3 = 1
_SYNC = 0xFF
_KIND = 0xFE
"""The second byte but for its last bit, which says whether a frame has a checksum."""
_RATE = 0x0C
_RESERVED_RATE = 3
_HERTZ = (44100, 48000, 32000)
"""Of MPEG 1; half of each is of MPEG 2, a quarter of MPEG 2.5."""
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_FIRST_BYTES = 64
"""Of the first frame, which hold its header."""
_MONO = 3
_SIDE_BYTES = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
"""Of a frame, by whether it is of MPEG 1 and whether it is mono."""
_HAS_FRAMES, _HAS_BYTES = 1, 2
_TOLERANCE_BYTES = (
    4096  # what some writers count otherwise: the header's own frame, or a last one that is cut
)
_ID3_V1_BYTES = 128
_APE_FOOTER_BYTES = 32
_APE_FOOTER = struct.Struct("<8sII")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mp3Frames:
    """The frames of a file, from the one that states their number to the last."""

    start: int
    """Byte at which they begin."""
    end: int
    """Byte after them."""


def find_frames(file: bytes) -> Mp3Frames | str:
    """The frames of a file, each of which follows the one before; else what keeps its length from being known."""
    start = skip_tags(file)
    if not file.startswith(b"\xff", start):
        return Mp3Frames(start=0, end=len(file))  # no frame: the decoder says what it is
    header = _find_header(file, start)
    if header is None:
        return "has no header with its length (Xing or Info): write it again with one, or as WAV or FLAC"
    flags, frames, size = header
    if not flags & _HAS_FRAMES or not frames:
        return "has a header without its length: write it again, or as WAV or FLAC"
    if flags & _HAS_BYTES and _find_end(file) - start > size + _TOLERANCE_BYTES:
        return (
            "goes on where its header says that it ends: send one file, not several that were joined, and without tags "
            "at its end"
        )
    count, end = _follow_frames(file, start)
    if count < frames:
        return f"is truncated or damaged: it has {count} frames of {frames}"
    return Mp3Frames(start=start, end=end)


def cut_out(file: bytes, frames: Mp3Frames) -> bytes:
    """The frames alone, whose header states how many bytes they have: the decoder warns of everything else."""
    cut = bytearray(memoryview(file)[frames.start : frames.end])
    header = _find_header(bytes(cut[:_FIRST_BYTES]), 0)
    if header is not None and header[0] & _HAS_BYTES:
        place = _find_place(cut, 0) + 8 + (4 if header[0] & _HAS_FRAMES else 0)
        struct.pack_into(">I", cut, place, len(cut))
    return bytes(cut)


def _follow_frames(file: bytes, start: int) -> tuple[int, int]:
    """How many frames follow the first, which has no samples, without a gap, and where the last one ends."""
    kind = file[start + 1] & _KIND, file[start + 2] & _RATE
    count, at = -1, start
    while at + 4 <= len(file) and file[at] == _SYNC and file[at + 1] & _KIND == kind[0]:
        size = _measure_frame(file[at + 1], file[at + 2])
        if file[at + 2] & _RATE != kind[1] or not size or at + size > len(file):
            break
        count, at = count + 1, at + size
    return count, at


def _measure_frame(second: int, third: int) -> int:
    """Bytes of a frame of layer III; 0 for what is none, or has no stated bit rate."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    rate, speed = third >> 2 & 3, third >> 4
    if layer != _LAYER_3 or version == _RESERVED or rate == _RESERVED_RATE:
        return 0
    is_mpeg_1 = version == _MPEG_1
    kilobits = (_KILOBITS_1 if is_mpeg_1 else _KILOBITS_2)[speed]
    hertz = _HERTZ[rate] >> {_MPEG_1: 0, _MPEG_2: 1, _MPEG_2_5: 2}[version]
    return (
        kilobits * (144_000 if is_mpeg_1 else 72_000) // hertz + (third >> 1 & 1) if kilobits else 0
    )


def skip_tags(file: bytes) -> int:
    """Where the file itself begins: after at most 16 tags of ID3v2, and after zeros that fill them up."""
    start = 0
    for _ in range(_MAX_TAGS):
        if not file.startswith(b"ID3", start) or len(file) < start + _TAG_SIZE:
            break
        size = 0
        for byte in file[start + 6 : start + _TAG_SIZE]:
            size = size << 7 | byte & 0x7F
        has_footer = file[start + 5] & _HAS_FOOTER
        start += _TAG_SIZE + size + (_TAG_SIZE if has_footer else 0)
    filled = _ZEROS.match(file, start)
    return start if filled is None else filled.end()


def _find_header(file: bytes, start: int) -> tuple[int, int, int] | None:
    """Flags, frames and bytes of the Xing header in the first frame; None if it has none."""
    if len(file) < start + 4:
        return None
    place = _find_place(file, start)
    if file[place : place + 4] not in (b"Xing", b"Info") or len(file) < place + 16:
        return None
    flags, first, second = struct.unpack_from(">III", file, place + 4)
    frames = first if flags & _HAS_FRAMES else 0
    return flags, frames, second if flags & _HAS_FRAMES else first


def _find_place(file: bytes | bytearray, start: int) -> int:
    """Where the Xing header is in the first frame: after the information on its channels."""
    is_mpeg_1 = file[start + 1] >> 3 & 3 == _MPEG_1
    is_mono = file[start + 3] >> 6 == _MONO
    return start + 4 + _SIDE_BYTES[is_mpeg_1, is_mono]


def _find_end(file: bytes) -> int:
    """Where the frames end: before tags of ID3v1 and APEv2."""
    end = len(file)
    if file.startswith(b"TAG", max(0, end - _ID3_V1_BYTES)):
        end -= _ID3_V1_BYTES
    footer = max(0, end - _APE_FOOTER_BYTES)
    if file.startswith(b"APETAGEX", footer):
        _, _, size = _APE_FOOTER.unpack_from(file, footer)
        end -= size
    return end
