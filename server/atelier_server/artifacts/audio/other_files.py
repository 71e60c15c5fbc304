"""Names the files that are not read, for people who send them."""

from __future__ import annotations

KNOWN = "WAV, FLAC, Ogg Vorbis, Opus or MP3"
"""What is read."""
_LARGE = "; write it as WAV, which has room for 600 seconds, or as FLAC"
_OTHERS = (
    (0, b"RF64", f"RF64{_LARGE}"),
    (0, b"BW64", f"BW64{_LARGE}"),
    (0, b"riff", f"Wave64{_LARGE}"),
    (0, b"FORM", "AIFF"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"\x30\x26\xb2\x75", "WMA"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x0bw", "AC-3"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\xff\xf4", "MPEG layer II"),
    (0, b"\xff\xf5", "MPEG layer II"),
    (0, b"\xff\xfc", "MPEG layer II"),
    (0, b"\xff\xfd", "MPEG layer II"),
    (0, b"RIFX", "RIFX"),
    (0, b"MThd", "MIDI"),
)


def describe_other(data: bytes) -> str:
    """What a file is that is not read."""
    if not data:
        return f"not {KNOWN}: it is empty, it has no bytes"
    for place, magic, name in _OTHERS:
        if data.startswith(magic, place):
            return f"not {KNOWN}, but {name}"
    return f"not {KNOWN}"
