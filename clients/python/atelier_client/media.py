"""Input media of tasks, in every form that a caller may have them, and their media types."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias
from urllib.parse import unquote_to_bytes

from atelier_client import pixels
from atelier_client.errors import InvalidRequestError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


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


class HoldsArtifact(Protocol):
    """An output of a generation, whose artifact is meant."""

    @property
    def artifact(self) -> Artifact:
        """Its artifact."""


class SupportsRead(Protocol):
    """A file that is open for reading bytes."""

    def read(self) -> bytes | bytearray | memoryview:
        """All bytes that are left."""


if TYPE_CHECKING:
    Media: TypeAlias = (
        str
        | os.PathLike[str]
        | bytes
        | bytearray
        | memoryview
        | SupportsRead
        | PillowImage
        | pixels.AnyArray
        | Artifact
        | HoldsArtifact
    )
else:
    Media = object
"""A file by its path or open for reading, bytes, an image of Pillow, an array of NumPy, an artifact or an output; or
text: a path, a data URI, an https URI, or the id of an artifact."""


@dataclass(frozen=True, slots=True)
class ArtifactId:
    """Media that the server has."""

    value: str


@dataclass(frozen=True, slots=True)
class HttpsUri:
    """Media that the server is to fetch."""

    value: str


Resolved: TypeAlias = bytes | ArtifactId | HttpsUri
"""Media as a request has them."""

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
    (b"\xff\xfb", b"", "audio/mpeg"),  # MPEG-1, layer III, without ID3
    (b"\xff\xf3", b"", "audio/mpeg"),  # MPEG-2
)
_ID = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
"""The form of the ids that servers give to artifacts."""
_FORMAT_OFFSET = 8
"""Offset of the format in a RIFF or an AVIF file."""


def resolve(source: Media) -> Resolved:
    """The bytes of local media, as a PNG where they are pixels; or what names media elsewhere. Reads files.

    Text that has the form of an id is one; other text is a file if there is one of that name.

    Raises:
        InvalidRequestError: a file cannot be read, or the value is none of Media.
        MissingPackageError: an array, without Pillow.
    """
    match source:
        case str():
            return _resolve_text(source)
        case bytes() | bytearray() | memoryview():
            return _not_empty(bytes(source))
        case os.PathLike():
            return _read_path(Path(source))
        case Artifact():
            return ArtifactId(source.id)
        case _:
            return _resolve_object(source)


def _resolve_object(source: object) -> Resolved:
    """Resolve what is known by its methods, or by a package that need not be installed."""
    artifact = getattr(source, "artifact", None)
    if isinstance(artifact, Artifact):
        return ArtifactId(artifact.id)
    if pixels.is_pillow_image(source):
        return pixels.encode_image(source)
    if pixels.is_array(source):
        return pixels.encode_array(source)
    read = getattr(source, "read", None)
    if callable(read):
        return _read_open_file(read)
    raise InvalidRequestError(
        f"{_describe_type(source)} is no image: give a path, bytes, an open file, an image of Pillow,"
        " an array of NumPy, an artifact, an output, a data URI or an https URI"
    )


def _resolve_text(text: str) -> Resolved:
    if not text.strip():
        raise InvalidRequestError("the text is empty")
    if text.lstrip()[:5].lower() == "data:":
        return _decode_data_uri(text)
    scheme, separator, _ = text.partition("://")
    if separator:
        if scheme.lower() != "https":
            raise InvalidRequestError(f"the URI must begin with https://, not {scheme}://")
        return HttpsUri(text)
    if _ID.fullmatch(text):
        return ArtifactId(text)
    path = Path(text).expanduser()
    if not _is_file(path) and len(path.parts) == 1 and not path.suffix:
        return ArtifactId(text)  # of a server whose ids have another form
    return _read_path(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _read_path(path: Path) -> bytes:
    try:
        return _not_empty(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequestError(f"cannot read {path}: {reason}") from error


def _read_open_file(read: Callable[[], object]) -> bytes:
    try:
        data = read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise InvalidRequestError(f"cannot read the open file: {error}") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidRequestError("the open file is one of text: open it with mode 'rb'")
    return _not_empty(bytes(data))


def _decode_data_uri(text: str) -> bytes:
    """The bytes of a data URI.

    Sources: RFC 2397; as browsers do it, case and white space do not count, and missing padding is added
    (https://fetch.spec.whatwg.org/#data-url-processor, 2026-11).
    """
    head, comma, payload = text.partition(",")
    if not comma:
        raise InvalidRequestError("the data URI has no comma before its data")
    data = unquote_to_bytes(payload)
    if head.rpartition(";")[2].strip().lower() != "base64":
        return _not_empty(data)
    packed = b"".join(data.split()).rstrip(b"=")
    try:
        return _not_empty(base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True))
    except ValueError as error:
        raise InvalidRequestError("the data URI is not valid base64") from error


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise InvalidRequestError("the file is empty, or was read to its end before")
    return data


def _describe_type(value: object) -> str:
    return f"a value of type {type(value).__module__}.{type(value).__qualname__}"


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
