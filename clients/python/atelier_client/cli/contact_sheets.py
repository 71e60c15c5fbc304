"""Contact sheets: images in a grid, each with its label."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_client.errors import InvalidRequestError, MissingPackageError
from atelier_client.pixels import open_image
from atelier_client.whole_files import overwrite

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_SIDE = 256
"""Longest side of an image on the sheet in pixels."""
_LABEL_HEIGHT = 24
_GAP = 8
_MAX_LABEL_LENGTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One image of a sheet."""

    path: Path
    label: str


def write_contact_sheet(path: Path, entries: Sequence[Entry], columns: int | None = None) -> bool:
    """Write the sheet as a PNG, as square as it can be without `columns`; False if Pillow is not installed.

    Raises:
        InvalidRequestError: an image cannot be read, or the sheet cannot be written.
    """
    try:
        images = [_open_small(entry.path) for entry in entries]
        sheet = _arrange(images, [entry.label for entry in entries], columns)
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        overwrite(path, buffer.getvalue())
    except MissingPackageError:
        return False
    except OSError as error:
        raise InvalidRequestError(
            f"cannot write {path}: {error.strerror or error}; the images are saved"
        ) from error
    return True


def _open_small(path: Path) -> PillowImage:
    image = open_image(path.read_bytes())
    image.thumbnail((_SIDE, _SIDE))
    return image


def _arrange(
    images: Sequence[PillowImage], labels: Sequence[str], columns: int | None
) -> PillowImage:
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - an extra, which has decoded the images

    across = columns or math.ceil(math.sqrt(len(images)))
    wide = max(image.width for image in images) + _GAP
    high = max(image.height for image in images) + _LABEL_HEIGHT + _GAP
    sheet = Image.new(
        "RGB", (wide * across + _GAP, high * math.ceil(len(images) / across) + _GAP), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = index % across * wide + _GAP, index // across * high + _GAP
        sheet.paste(image.convert("RGB"), (left, top))
        text = label[:_MAX_LABEL_LENGTH]
        while text and draw.textlength(text, font) > wide - _GAP:
            text = text[:-1]
        draw.text((left, top + image.height + 4), text, "black", font)
    return sheet
