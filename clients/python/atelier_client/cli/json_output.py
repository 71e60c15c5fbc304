"""Prints results as JSON, without the bytes of media."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime

import click

_MEDIA = frozenset({"content", "data"})
"""Fields of results that hold the bytes of media."""


def echo_json(value: object) -> None:
    """Print one line of JSON on stdout."""
    click.echo(json.dumps(to_plain(value), ensure_ascii=False))


def to_plain(value: object) -> object:
    """A result as JSON types: fields by name, times as ISO 8601, no bytes."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if is_dataclass(value):
        names = (field.name for field in fields(value) if field.name not in _MEDIA)
        return {name: to_plain(getattr(value, name)) for name in names}
    return value
