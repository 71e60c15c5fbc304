"""Pictures and sounds on their way to the server: where they come from and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from atelier_client.errors import InvalidRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An immutable blob on the server."""

    id: str
    media_type: str
    size: int
    """Length in bytes."""
    sha256: str
    """Of the bytes, 64 lower-case hexadecimal digits."""
    width: int = 0
    """Of a picture in pixels; 0 for sounds."""
    height: int = 0
    """Of a picture in pixels; 0 for sounds."""
    create_time: datetime | None = None
    expire_time: datetime | None = None


LocalMedia: TypeAlias = Path | bytes
"""A file, or its bytes."""
Media: TypeAlias = LocalMedia | Artifact | str
"""A file, bytes, an artifact, the id of one, or an https address."""

_MAGIC: tuple[tuple[bytes, bytes, str], ...] = (
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
_FORM_OFFSET = 8
"""Where a RIFF or an AVIF file says what it holds."""


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


def sniff(data: bytes) -> str:
    """The media type that the first bytes tell.

    Raises:
        InvalidRequestError: they tell none that is known here.
    """
    for start, form, media_type in _MAGIC:
        if data.startswith(start) and data.startswith(form, _FORM_OFFSET if form else 0):
            return media_type
    raise InvalidRequestError(
        "this is no PNG, JPEG, GIF, WebP, AVIF, WAV, FLAC, Ogg or MP3: say its media_type"
    )
