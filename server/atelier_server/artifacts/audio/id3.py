"""Writes the tags of MP3 files. libsndfile writes them as Latin-1, whatever their characters."""

from __future__ import annotations

_UTF_8 = b"\x03"
_LANGUAGE = b"und"
_SEVEN_BITS = 0x7F


def build_id3(title: str, artist: str, comment: str) -> bytes:
    """An ID3v2.4 tag, for the start of the file. No text may contain NUL.

    Source: ID3 tag version 2.4.0, main structure (3.1, 6.2) and native frames (4.2, 4.10).
    """
    frames = [
        _build_frame(b"TIT2", _UTF_8 + title.encode()),
        _build_frame(b"TPE1", _UTF_8 + artist.encode()),
        _build_frame(b"COMM", _UTF_8 + _LANGUAGE + b"\0" + comment.encode()),
    ]
    body = b"".join(frames)
    return b"ID3\x04\0\0" + _encode_size(len(body)) + body


def _build_frame(name: bytes, content: bytes) -> bytes:
    return name + _encode_size(len(content)) + b"\0\0" + content


def _encode_size(size: int) -> bytes:
    """Four bytes of seven bits."""
    return bytes(size >> shift & _SEVEN_BITS for shift in (21, 14, 7, 0))
