"""Writes words on a picture: wrapped, shortened where they do not fit, legible on any ground."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

_LONGEST = 400
"""Characters looked at; more are never legible."""
_SMALLEST = 6
"""Pixels; smaller letters cannot be read."""
_SPACING = 1.25
_SHARE = 0.6
"""Part of the height that words may cover."""
_SHADE = (0, 0, 0, 120)
_INK = (255, 255, 255, 255)
_FAINT = (255, 255, 255, 190)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def letter(image: Image.Image, words: str, small_words: str, font_size: int | None) -> None:
    """Write `words`, and `small_words` below them, at the foot of the picture.

    `font_size` is in pixels; None fits it to the picture. Pictures too small for letters stay bare.
    """
    size = font_size or max(_SMALLEST, min(image.size) // 15)
    margin = size // 2
    room = image.width - 2 * margin
    rows = int((image.height * _SHARE - margin) / (size * _SPACING))
    small = max(_SMALLEST, size * 2 // 3)
    notes = _wrapped(small_words, _font(small), room, 1) if rows > 1 else []
    lines = _wrapped(words, _font(size), room, rows - len(notes))
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


def _wrapped(words: str, font: _Font, room: float, rows: int) -> list[str]:
    """At most `rows` lines, none wider than `room` pixels; what is cut off ends in an ellipsis."""
    rest = _plain(words)
    lines: list[str] = []
    while rest and len(lines) < rows:
        fits = _fitting(rest, font, room)
        if not fits:
            break
        space = rest.rfind(" ", 0, fits + 1)
        cut = fits if fits == len(rest) or space <= 0 else space
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest and lines:
        lines[-1] = _shortened(lines[-1], font, room)
    return lines


def _fitting(text: str, font: _Font, room: float) -> int:
    """How many characters of `text` fit into `room` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _shortened(line: str, font: _Font, room: float) -> str:
    return line[: _fitting(line, font, room - font.getlength("…"))].rstrip() + "…"


def _plain(words: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in words[:_LONGEST])
    return " ".join(shown.split()) + ("…" if len(words) > _LONGEST else "")
