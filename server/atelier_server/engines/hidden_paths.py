"""Takes the paths of an engine's configuration out of what callers are told; the log has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

Hide: TypeAlias = Callable[[str], str]
"""The text as callers may read it."""


def hide_paths(config: BaseModel) -> Hide:
    """What puts the names of settings, such as <models_dir>, in the places of their paths."""
    names: dict[str, str] = {}
    for name, path in _list_paths("", config):
        for text in {str(path), _expand(path)} - {".", "/"}:
            names.setdefault(text, f"<{name}>")
    longest_first = sorted(names.items(), key=lambda pair: -len(pair[0]))

    def hide(text: str) -> str:
        for path, name in longest_first:
            text = text.replace(path, name)
        return text

    return hide


def _expand(path: Path) -> str:
    with suppress(RuntimeError):  # the home directory of somebody unknown
        path = path.expanduser()
    return str(path)


def _list_paths(name: str, value: object) -> Iterator[tuple[str, Path]]:
    """Every path in the value of a setting, a text that begins as an absolute one included, by dotted names."""
    match value:
        case Path():
            yield name, value
        case str() if value.startswith(("/", "~")):
            yield name, Path(value)
        case BaseModel():
            for field in type(value).model_fields:
                yield from _list_paths(f"{name}.{field}".lstrip("."), getattr(value, field))
        case Mapping():
            for key, one in value.items():
                yield from _list_paths(f"{name}.{key}", one)
        case Sequence() if not isinstance(value, str | bytes):
            for one in value:
                yield from _list_paths(name, one)
        case _:
            return
