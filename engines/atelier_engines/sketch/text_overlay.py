"""Draws text on an image: wrapped, shortened where it does not fit, legible on any background."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

_MAX_CHARACTERS = 400
"""Maximum number of characters that are drawn; more are never legible."""
_MIN_FONT_SIZE = 6
"""Pixels; a smaller font is not legible."""
_SPACING = 1.25
_MAX_HEIGHT_FRACTION = 0.6
"""Maximum fraction of the image's height that text may cover."""
_SHADE = (0, 0, 0, 120)
_INK = (255, 255, 255, 255)
_FAINT = (255, 255, 255, 190)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_text(image: Image.Image, words: str, small_words: str, font_size: int | None) -> None:
    """Draw `words`, and `small_words` below them, at the bottom of the image.

    `font_size` is in pixels; None derives it from the image. Images too small for text get none.
    """
    size = font_size or max(_MIN_FONT_SIZE, min(image.size) // 15)
    margin = size // 2
    room = image.width - 2 * margin
    rows = int((image.height * _MAX_HEIGHT_FRACTION - margin) / (size * _SPACING))
    small = max(_MIN_FONT_SIZE, size * 2 // 3)
    notes = _wrap(small_words, _font(small), room, 1) if rows > 1 else []
    lines = _wrap(words, _font(size), room, rows - len(notes))
    if not lines and not notes:
        return
    pen = ImageDraw.Draw(image, "RGBA")
    height = (len(lines) * size + len(notes) * small) * _SPACING
    top = image.height - height - margin
    pen.rectangle((0, top - margin / 2, image.width, image.height), fill=_SHADE)
    for line in lines:
        pen.text((margin, top), line, _INK, _font(size))
        top += size * _SPACING
    for line in notes:
        pen.text((margin, top), line, _FAINT, _font(small))


@lru_cache(maxsize=32)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _wrap(words: str, font: _Font, room: float, rows: int) -> list[str]:
    """Wrap text to at most `rows` lines of `room` pixels; an ellipsis marks what is cut off."""
    rest = _printable(words)
    lines: list[str] = []
    while rest and len(lines) < rows:
        fits = _fitting_length(rest, font, room)
        if not fits:
            break
        space = rest.rfind(" ", 0, fits + 1)
        cut = fits if fits == len(rest) or space <= 0 else space
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest and lines:
        lines[-1] = _shorten(lines[-1], font, room)
    return lines


def _fitting_length(text: str, font: _Font, room: float) -> int:
    """Number of characters of `text` that fit into `room` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _shorten(line: str, font: _Font, room: float) -> str:
    return line[: _fitting_length(line, font, room - font.getlength("…"))].rstrip() + "…"


def _printable(words: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in words[:_MAX_CHARACTERS])
    return " ".join(shown.split()) + ("…" if len(words) > _MAX_CHARACTERS else "")
