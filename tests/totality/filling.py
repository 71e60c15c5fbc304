"""Fills every field of a dataclass with a value that is not its default, found by reflection."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from itertools import count
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from atelier_engines import media, task

T = TypeVar("T")
_NAMES = {**vars(task), **vars(media)}
"""Names that modules import for type checking alone."""
_NUMBERS = count(11)


def filled(kind: type[T]) -> T:
    """An instance in which every field, of every dataclass within it, has a value of its own."""
    hints = get_type_hints(kind, localns=_NAMES)
    made = kind(**{field.name: _value(field, hints[field.name]) for field in fields(kind)})  # type: ignore[arg-type]  # fields by name
    assert list(defaulted(made)) == []
    return made


def defaulted(value: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401 - dataclasses of any kind
    """The fields whose value is their default, or says nothing, within a dataclass."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from defaulted(item, f"{path}[{index}]")
    if not is_dataclass(value) or isinstance(value, media.Pixels | media.Samples):
        return
    for field in fields(value):
        found = getattr(value, field.name)
        name = f"{path}.{field.name}" if path else field.name
        default = field.default if field.default is not MISSING else None
        if found in (default, None, "", ()) or (isinstance(found, Mapping) and not found):
            yield name
        yield from defaulted(found, name)


def _value(field: Field[Any], hint: Any) -> Any:  # noqa: ANN401, PLR0911 - one line a type
    name = field.name
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return _value(field, next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return tuple(_several(field, arguments[0]))
    if origin is frozenset:
        return frozenset(_several(field, arguments[0]))
    if origin is Mapping and get_origin(arguments[1]) is tuple:
        return {f"{name}-{next(_NUMBERS)}": (_text(name), _text(name))}
    if origin is Mapping:
        nested = {"deep": [next(_NUMBERS), 0.5, None, True]}
        return {f"{name}-{next(_NUMBERS)}": _text(name) if arguments[1] is str else nested}
    if isinstance(hint, type) and is_dataclass(hint):
        return filled(hint)
    if issubclass(hint, Enum):
        return next(member for member in hint if member is not field.default)
    return {bool: True, int: next(_NUMBERS), float: next(_NUMBERS) + 0.5, str: _text(name)}[hint]


def _several(field: Field[Any], hint: Any) -> list[Any]:  # noqa: ANN401 (a type of any field)
    """Two values; of an enumeration all, from the last to the first."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return list(reversed(list(hint)))
    return [_value(field, hint), _value(field, hint)]


def _text(name: str) -> str:
    return f"{name}-{next(_NUMBERS)}"
