"""Describes invalid values of a configuration, without showing what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

_SECRET = re.compile("key|token|secret|password|credential|header|auth", re.IGNORECASE)
"""Values of such keys are never printed, whatever their types."""
_ADDRESS = re.compile("[@?]")
"""Of texts that may be an address with a password, or with a token in its query."""
_UNNAMELIKE = re.compile(r"[^A-Za-z0-9_.-].*", re.DOTALL)
"""Of an unknown key, what follows its name: `key:value` without a space is one text."""
_SECTIONS = re.compile("^(dict|list|tuple|mapping|model|set|frozen_set|dataclass)_")
"""Errors of pydantic about a value that should have been a section or a list."""


def describe_errors(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line for each error: its key, what is expected, and the value, if that cannot be a secret.

    Args:
        error: what the model has raised.
        model: it knows which values are secrets.
        prefix: of the keys.
    """
    return [_format_error(model, prefix, one) for one in error.errors(include_url=False)]


def read_message(problem: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails, a TypedDict of its own)
    """What is wrong, without the words that pydantic puts before what our own validators say."""
    return str(problem["msg"]).removeprefix("Value error, ")


def show_value(value: object) -> str:
    """`, not VALUE`; empty for a section, a list, and what may be an address with a password."""
    if isinstance(value, dict | list) or (isinstance(value, str) and _ADDRESS.search(value)):
        return ""
    return f", not {value!r}"


def _format_error(model: type[BaseModel], prefix: str, problem: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails, a TypedDict of its own)
    place, kind = problem["loc"], problem["type"]
    message = read_message(problem)
    parts = [*([prefix] if prefix else []), *(str(part) for part in place if part != "config")]
    if kind == "extra_forbidden":
        return f"{'.'.join([*parts[:-1], _UNNAMELIKE.sub('…', parts[-1])])}: unknown key"
    path = ".".join(parts)
    if kind == "renamed_key":
        return f"{path}: {message}"
    if not path:  # of the whole configuration: the message names the keys
        return message
    if kind == "missing":
        return f"{path}: is required"
    # A section is not repeated either: its keys may be secrets, also where it is wrong as a whole.
    if _SECRET.search(path) or (_SECTIONS.match(kind) and isinstance(problem["input"], str)):
        return f"{path}: {message}"
    hidden = any(_has_secret(annotation) for annotation in _find_types([model], place))
    return f"{path}: {message}{'' if hidden else show_value(problem['input'])}"


def _find_types(types: Sequence[object], place: Sequence[int | str]) -> Sequence[object]:
    """The types that the value at a place in values of those types may have."""
    for part in place:
        types = [
            inner for given in types for one in _flatten(given) for inner in _descend(one, part)
        ]
    return types


def _flatten(annotation: object) -> Iterator[object]:
    """A type, and those that it is made of: of a union, a collection or an annotation."""
    yield annotation
    for one in get_args(annotation):
        yield from _flatten(one)


def _descend(annotation: object, part: int | str) -> Iterator[object]:
    """The type of a field, of a section that has it; all others stay, since they were flattened."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield annotation
    elif part in annotation.model_fields:
        yield annotation.model_fields[str(part)].annotation


def _has_secret(annotation: object) -> bool:
    return any(isinstance(one, type) and issubclass(one, SecretStr) for one in _flatten(annotation))
