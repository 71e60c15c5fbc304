"""Input media of tasks: artifacts on the server, local files and bytes, and their media types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from atelier_client.errors import InvalidRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An immutable file on the server."""

    id: str
    media_type: str
    size: int
    """Length in bytes."""
    sha256: str
    """SHA-256 of the bytes, 64 lower-case hexadecimal digits."""
    width: int = 0
    """Width in pixels; 0 for audio."""
    height: int = 0
    """Height in pixels; 0 for audio."""
    create_time: datetime | None = None
    expire_time: datetime | None = None


LocalMedia: TypeAlias = Path | bytes
"""A local file, or its bytes."""
Media: TypeAlias = LocalMedia | Artifact | str
"""A local file, bytes, an artifact, the id of an artifact, or an https URI."""

_SIGNATURES: tuple[tuple[bytes, bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"GIF8", b"", "image/gif"),
    (b"RIFF", b"WEBP", "image/webp"),
    (b"\0\0\0", b"avif", "image/avif"),  # the length of its first box, which is short
    (b"RIFF", b"WAVE", "audio/wav"),
    (b"fLaC", b"", "audio/flac"),
    (b"OggS", b"", "audio/ogg"),
    (b"ID3", b"", "audio/mpeg"),
)
_FORMAT_OFFSET = 8
"""Offset of the format in a RIFF or an AVIF file."""


def read(source: LocalMedia) -> bytes:
    """The bytes of a file, or the bytes given.

    Raises:
        InvalidRequestError: the file cannot be read.
    """
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"cannot read {source}: {error.strerror}") from error


def size(source: LocalMedia) -> int:
    """Length in bytes, without reading a file.

    Raises:
        InvalidRequestError: there is no such file.
    """
    if isinstance(source, bytes):
        return len(source)
    try:
        return source.stat().st_size
    except OSError as error:
        raise InvalidRequestError(f"cannot read {source}: {error.strerror}") from error


def detect_media_type(data: bytes) -> str:
    """Detect the media type by the first bytes.

    Raises:
        InvalidRequestError: no known format has these first bytes.
    """
    for start, form, media_type in _SIGNATURES:
        if data.startswith(start) and data.startswith(form, _FORMAT_OFFSET if form else 0):
            return media_type
    raise InvalidRequestError(
        "not a PNG, JPEG, GIF, WebP, AVIF, WAV, FLAC, Ogg or MP3 file: give its media_type"
    )
