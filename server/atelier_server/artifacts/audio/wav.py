"""Checks WAV files that callers send: decoders read what there is of a truncated one.

Source: Microsoft, Multimedia Programming Interface and Data Specifications 1.0 (RIFF); WAVEFORMATEXTENSIBLE, mmreg.h.
"""

from __future__ import annotations

import struct

_CHUNK = struct.Struct("<4sI")
_STREAMED = 0x7FFFF000
"""From here on the size of a chunk of samples says that it was not known: writers into pipes cannot go back."""
_EXTENSIBLE = 0xFFFE
_KIND_PLACE, _KIND_BYTES = 24, 16
"""Of the identifier of an extensible header, whose first two bytes are the number of the codec."""
_KIND_END = bytes.fromhex("000000001000800000aa00389b71")


def find_wav_fault(file: bytes) -> str:
    """What keeps the file from being read to its end; empty if nothing does."""
    start = 12
    while start + _CHUNK.size <= len(file):
        name, size = _CHUNK.unpack_from(file, start)
        start += _CHUNK.size
        if name == b"fmt " and (fault := _find_format_fault(file[start : start + size])):
            return fault
        if name == b"data":
            whole = size >= _STREAMED or start + size <= len(file)
            return "" if whole else "is truncated: it ends before its samples do"
        start += size + size % 2
    return "is truncated: it ends before its samples do"


def _find_format_fault(form: bytes) -> str:
    kind = form[_KIND_PLACE : _KIND_PLACE + _KIND_BYTES]
    is_extensible = form[:2] == struct.pack("<H", _EXTENSIBLE)
    if not is_extensible or len(kind) < _KIND_BYTES or kind[2:] == _KIND_END:
        return ""
    return f"has samples of an unknown kind, {kind.hex()}: write it as PCM or floats"
