"""One line for what holds bytes, or many fields: what Python and notebooks print."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields

_LONGEST_TEXT = 48


class ShortRepr:
    """A dataclass that prints in one line: the fields that differ from their defaults, media by their size.

    The class is declared with `repr=False`.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._describe_fields())})"

    def _describe_fields(self) -> Iterator[str]:
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if not _is_default(field, value):
                yield f"{field.name}={describe_value(value)}"


def describe_value(value: object) -> str:
    """A value in a few words: text and lists are shortened, media are a type and a size."""
    match value:
        case str():
            return repr(shorten(value))
        case bytes() | bytearray() | memoryview():
            return f"<{format_size(len(value))}>"
        case tuple() | list():
            return f"({', '.join(map(describe_value, value))})"
        case None | bool() | int() | float() | ShortRepr():
            return repr(value)
        case _:
            text = repr(value)
            return text if len(text) <= _LONGEST_TEXT and "\n" not in text else f"<{_type(value)}>"


def shorten(text: str, longest: int = _LONGEST_TEXT) -> str:
    """The text in one line of at most so many characters, with an ellipsis where some are left out."""
    line = " ".join(text[: 4 * longest].split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def format_size(size: int) -> str:
    """A number of bytes for people, such as 14.2 kB."""
    if size < 1000:  # noqa: PLR2004 - bytes below a kilobyte
        return f"{size} bytes"
    value, unit = (size / 1e3, "kB") if size < 1e6 else (size / 1e6, "MB")  # noqa: PLR2004 - a megabyte
    return f"{value:.1f} {unit}"


def _is_default(field: Field[object], value: object) -> bool:
    """Whether a field has its default; compared without asking an array, which compares cell by cell."""
    if field.default is MISSING:
        return False
    return value is field.default or (type(value) is type(field.default) and value == field.default)


def _type(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
