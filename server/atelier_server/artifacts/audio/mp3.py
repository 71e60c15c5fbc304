"""Checks MP3 files that callers send: decoders only guess how long one without a header of its length is.

Sources: ISO/IEC 11172-3, 2.4.1.3 and 13818-3, 2.4.2.3 (frames); the Xing header as LAME 3.100 writes it (VbrTag.c);
ID3v2.4, 3.1; ID3v1; APEv2.
"""

from __future__ import annotations

import struct

_TAG_SIZE = 10
_MPEG_1 = 3
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


def find_fault(file: bytes) -> str:
    """What keeps the length of the file from being known; empty if nothing does."""
    start = _skip_tags(file)
    if not file.startswith(b"\xff", start):
        return ""  # no frame: the decoder says what it is
    header = _find_header(file, start)
    if header is None:
        return "has no header with its length (Xing or Info): write it again with one, or as WAV or FLAC"
    flags, frames, size = header
    if not flags & _HAS_FRAMES or not frames:
        return "has a header without its length: write it again, or as WAV or FLAC"
    if flags & _HAS_BYTES and _find_end(file) - start > size + _TOLERANCE_BYTES:
        return "goes on where its header says that it ends: send one file, not several that were joined"
    return ""


def _skip_tags(file: bytes) -> int:
    """Where the first frame begins: after tags of ID3v2, and after zeros that fill them up."""
    start = 0
    while file.startswith(b"ID3", start) and len(file) >= start + _TAG_SIZE:
        size = 0
        for byte in file[start + 6 : start + _TAG_SIZE]:
            size = size << 7 | byte & 0x7F
        start += _TAG_SIZE + size
    while file.startswith(b"\0", start):
        start += 1
    return start


def _find_header(file: bytes, start: int) -> tuple[int, int, int] | None:
    """Flags, frames and bytes of the Xing header in the first frame; None if it has none."""
    if len(file) < start + 4:
        return None
    is_mpeg_1 = file[start + 1] >> 3 & 3 == _MPEG_1
    is_mono = file[start + 3] >> 6 == _MONO
    place = start + 4 + _SIDE_BYTES[is_mpeg_1, is_mono]
    if file[place : place + 4] not in (b"Xing", b"Info") or len(file) < place + 16:
        return None
    flags, first, second = struct.unpack_from(">III", file, place + 4)
    frames = first if flags & _HAS_FRAMES else 0
    return flags, frames, second if flags & _HAS_FRAMES else first


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
