"""What the image sources of a sketch engine have in common, and two of them: a directory, or a PNG of fixed length."""

from __future__ import annotations

import io
import struct
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from atelier_engines.capabilities import ImageFeature
from atelier_engines.errors import EngineFailedError, ModelMissingError
from atelier_engines.media import Encoded, Pixels, pixels_from_image
from atelier_engines.task import ImageTask

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """A finished image."""

    media: Pixels | Encoded
    """The output of the task."""
    image: Image.Image
    """The same image, to make previews from."""


class ImageSource(Protocol):
    """Makes the images of a sketch engine."""

    @property
    def features(self) -> frozenset[ImageFeature]:
        """Features beyond text-to-image."""

    @property
    def instant(self) -> bool:
        """Whether making an image is faster than starting a thread for it."""

    def make_image(self, task: ImageTask, seed: int, font_size: int | None) -> SourceImage:
        """Make the image of that seed; blocks.

        Raises:
            EngineFailedError: a file cannot be read.
        """


@dataclass(frozen=True, slots=True)
class DirectorySource:
    """Chooses from the images of a directory, by seed."""

    files: tuple[Path, ...]
    """At least one."""
    instant: ClassVar[bool] = False

    @property
    def features(self) -> frozenset[ImageFeature]:
        """See ImageSource.features. With a single image the seed has no effect."""
        seed = {ImageFeature.SEED} if len(self.files) > 1 else set()
        return frozenset({ImageFeature.PREVIEW, *seed})

    def make_image(self, task: ImageTask, seed: int, font_size: int | None) -> SourceImage:  # noqa: ARG002 (of the interface)
        """See ImageSource.make_image."""
        file = self.files[seed % len(self.files)]
        try:
            with Image.open(file) as opened:
                upright = ImageOps.exif_transpose(opened).convert("RGB")
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
            raise EngineFailedError(f"the image {file.name} cannot be read: {error}") from error
        image = ImageOps.fit(upright, (task.width, task.height))
        return SourceImage(media=pixels_from_image(image), image=image)


def open_directory(folder: Path) -> DirectorySource:
    """The images of a directory, in the order of their names.

    Raises:
        ModelMissingError: the directory is missing or contains no image.
    """
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise ModelMissingError(f"the image directory {folder} cannot be read") from error
    if not found:
        raise ModelMissingError(f"the image directory {folder} contains no PNG, JPEG or WebP file")
    return DirectorySource(tuple(found))


@dataclass(frozen=True, slots=True)
class FixedSizeSource:
    """Returns a plain PNG of an exact number of bytes, made once for each size; the newest again, if that is asked for.

    A private chunk pads it with noise, which compresses as badly as a real image; a text chunk holds the
    seed, so that images of different seeds differ.

    Source: PNG (Third Edition), W3C, 5.3 chunk layout, 5.4 naming, 11.3.3.2 tEXt.
    """

    output_bytes: int
    """Length of each PNG."""
    _templates: OrderedDict[tuple[int, int], _PaddedPng] = field(default_factory=OrderedDict)
    _newest: dict[tuple[int, int, int], SourceImage] = field(default_factory=dict)
    """By width, height and seed; at most one. A measurement sends one task again and again."""
    instant: ClassVar[bool] = True
    features: ClassVar[frozenset[ImageFeature]] = frozenset(
        {ImageFeature.SEED, ImageFeature.PREVIEW}
    )
    _MAX_SIZES: ClassVar[int] = 4

    def make_image(self, task: ImageTask, seed: int, font_size: int | None) -> SourceImage:  # noqa: ARG002 (of the interface)
        """See ImageSource.make_image."""
        wanted = (task.width, task.height, seed)
        made = self._newest.get(wanted)
        if made is None:
            made = self._make(task.width, task.height, seed)
            self._newest.clear()
            self._newest[wanted] = made
        return made

    def _make(self, width: int, height: int, seed: int) -> SourceImage:
        size = (width, height)
        padded = self._templates.get(size)
        if padded is None:
            padded = self._templates[size] = _pad(size, self.output_bytes)
            if len(self._templates) > self._MAX_SIZES:
                self._templates.popitem(last=False)
        data = b"".join((padded.head, _seed_chunk(seed), padded.tail))
        media = Encoded(media_type="image/png", data=data, width=width, height=height)
        return SourceImage(media=media, image=padded.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PaddedPng:
    """A PNG in two parts, between which the chunk with the seed is inserted."""

    head: bytes
    tail: bytes
    image: Image.Image


_MAX_PREVIEW_SIDE = 512
"""Longest side, in pixels, of the image that previews are made from."""
_CHUNK_OVERHEAD = 12
"""Length of a chunk without its data, and so of the last chunk, IEND."""


def _pad(size: tuple[int, int], total: int) -> _PaddedPng:
    plain = Image.new("1", size, 1)
    plain.paste(0, (0, size[1] * 2 // 3, *size))
    file = io.BytesIO()
    plain.save(file, "PNG", optimize=True)
    head, end = file.getvalue()[:-_CHUNK_OVERHEAD], file.getvalue()[-_CHUNK_OVERHEAD:]
    noise = np.random.default_rng(0).bytes(
        total - len(head) - len(_seed_chunk(0)) - 2 * _CHUNK_OVERHEAD
    )
    shown = plain.convert("L")
    shown.thumbnail((_MAX_PREVIEW_SIDE, _MAX_PREVIEW_SIDE))
    return _PaddedPng(head=head, tail=_chunk(b"paDd", noise) + end, image=shown)


def _seed_chunk(seed: int) -> bytes:
    return _chunk(b"tEXt", b"Seed\0%020d" % seed)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
