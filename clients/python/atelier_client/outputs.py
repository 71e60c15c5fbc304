"""Outputs of a generation: metadata, bytes, and how notebooks show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_client import notebook_html, pixels
from atelier_client.errors import NotDownloadedError
from atelier_client.media import Artifact
from atelier_client.representation import format_size
from atelier_client.whole_files import overwrite

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_NOTEBOOK_FORMATS = frozenset({"image/png", "image/jpeg"})
"""Formats that notebooks show without HTML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioProperties:
    """Length and layout of audio."""

    samples: int
    """Number of samples in each channel."""
    sample_rate: int
    """Hertz."""
    channels: int

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.samples / self.sample_rate


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Output:
    """One output of a generation, with its bytes if they were fetched."""

    artifact: Artifact
    seed: int
    """Seed that it was generated with."""
    content: bytes | None = None
    """The encoded bytes; None until fetched."""
    uri: str = ""
    """URI of the same bytes; empty where there is none."""
    flagged: bool = False
    """Whether a safety check flagged it."""
    audio: AudioProperties | None = None
    """Of audio, where the server knows it; None for images."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.describe()}>"

    def describe(self) -> str:
        """Format, seed, length and state in a few words."""
        parts = [
            f"{self._size_text()}{self.media_type.partition('/')[2].upper()}",
            f"seed {self.seed}",
            format_size(self.artifact.size),
        ]
        if self.content is None:
            parts.append("not fetched")
        if self.flagged:
            parts.append("flagged")
        return ", ".join(parts)

    def to_html(self, longest_side: int = 0) -> str:
        """HTML of the output, with its bytes; of a thumbnail where a side in pixels is given and exceeded."""
        if self.content is None:
            return notebook_html.placeholder_tag(f"{self!r}: client.fetch(generation) gets it")
        return self._body(self.content, longest_side)

    def _body(self, content: bytes, longest_side: int) -> str:  # noqa: ARG002 - only images have a side
        return notebook_html.audio_tag(self.media_type, content)

    def _size_text(self) -> str:
        return ""

    @property
    def media_type(self) -> str:
        """For instance image/png or audio/wav."""
        return self.artifact.media_type

    @property
    def data(self) -> bytes:
        """The encoded bytes.

        Raises:
            NotDownloadedError: they were not fetched; `client.fetch(generation)` does it.
        """
        if self.content is None:
            raise NotDownloadedError(
                f"the bytes of artifact {self.artifact.id} were not fetched: call client.fetch first"
            )
        return self.content

    def save(self, path: str | Path) -> Path:
        """Write the encoded bytes to a file, whole or not at all; missing folders are created.

        Raises:
            NotDownloadedError: they were not fetched; `client.fetch(generation)` does it.
            OSError: the file cannot be written.
        """
        target = Path(path)
        data = self.data
        target.parent.mkdir(parents=True, exist_ok=True)
        overwrite(target, data)
        return target


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Image(Output):
    """An image; a notebook shows it."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.artifact.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.artifact.height

    @property
    def image(self) -> PillowImage:
        """The image decoded by Pillow; a new one each time.

        Raises:
            NotDownloadedError: the bytes were not fetched.
            MissingPackageError: Pillow is not installed.
        """
        return pixels.open_image(self.data)

    @property
    def array(self) -> pixels.UInt8Array:
        """The pixels, 0 to 255: (height, width, channels) in RGB or RGBA, or (height, width) in grey.

        Raises:
            NotDownloadedError: the bytes were not fetched.
            MissingPackageError: Pillow or NumPy is not installed.
        """
        return pixels.decode_array(self.data)

    def _size_text(self) -> str:
        return f"{self.width}×{self.height} "

    def _body(self, content: bytes, longest_side: int) -> str:
        media_type = self.media_type
        if longest_side and max(self.width, self.height) > longest_side:
            thumbnail = pixels.make_thumbnail(content, longest_side)
            if thumbnail is not None:
                content, media_type = thumbnail, "image/webp"
        return notebook_html.image_tag(media_type, content, self.describe())

    def _repr_png_(self) -> bytes | None:
        return self.content if self.media_type == "image/png" else None

    def _repr_jpeg_(self) -> bytes | None:
        return self.content if self.media_type == "image/jpeg" else None

    def _repr_html_(self) -> str | None:
        return None if self.media_type in _NOTEBOOK_FORMATS else self.to_html()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Audio(Output):
    """An audio output; a notebook shows a player."""

    def _size_text(self) -> str:
        return "" if self.audio is None else f"{self.audio.seconds:.3g} s "

    def _repr_html_(self) -> str:
        return self.to_html()
