"""Checks WAV files that callers send: decoders read what there is of a truncated one, or what its header states.

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
_MAX_CHUNKS = 1000
"""Of which files of programs have some ten; each costs time."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX")
"""What programs write after the last chunk, which are tags of MP3."""
_KIND_END = bytes.fromhex("000000001000800000aa00389b71")

_TRUNCATED = "is truncated: it ends before its samples do"
_AGAIN = ": write it again, so that it states its length"
_MANY_CHUNKS = f"has more than {_MAX_CHUNKS} chunks: write it again, without them"


def find_wav_fault(file: bytes) -> str:
    """What keeps the file from being read to its end; empty if nothing does."""
    start = 12
    for _ in range(_MAX_CHUNKS):
        if start + _CHUNK.size > len(file):
            return _TRUNCATED
        name, size = _CHUNK.unpack_from(file, start)
        start += _CHUNK.size
        if name == b"fmt " and (fault := _find_format_fault(file[start : start + size])):
            return fault
        if name == b"data" and size >= _STREAMED:
            return ""
        if name == b"data":
            return _TRUNCATED if start + size > len(file) else _find_rest_fault(file, start + size)
        start += size + size % 2
    return _MANY_CHUNKS


def _find_rest_fault(file: bytes, start: int) -> str:
    """What is wrong with the file after its samples, where there may be chunks, tags and zeros: empty for nothing."""
    for _ in range(_MAX_CHUNKS):
        rest = len(file) - start
        begin = start + file.startswith(b"\0", start)  # which fills up an odd chunk, in most files
        if file.startswith(_TAGS, begin):
            return ""
        has_chunk = begin + _CHUNK.size <= len(file)
        name, size = _CHUNK.unpack_from(file, begin) if has_chunk else (b"", 0)
        start = begin + _CHUNK.size + size
        has_name = name.isascii() and name.decode().isprintable() and has_chunk
        if not has_name or start > len(file):
            is_filled = file.count(b"\0", len(file) - rest) == rest
            return "" if is_filled else f"has {rest} bytes more than its header states{_AGAIN}"
    return _MANY_CHUNKS


def _find_format_fault(form: bytes) -> str:
    kind = form[_KIND_PLACE : _KIND_PLACE + _KIND_BYTES]
    is_extensible = form[:2] == struct.pack("<H", _EXTENSIBLE)
    if not is_extensible or len(kind) < _KIND_BYTES or kind[2:] == _KIND_END:
        return ""
    return f"has samples of an unknown kind, {kind.hex()}: write it as PCM or floats"
