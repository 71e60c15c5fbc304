"""Builds the tasks of a batch from the fields in its file."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from atelier_client.cli.batch_files import read_tasks
from atelier_client.enums import ImageFormat
from atelier_client.tasks import ImageTask

_TEXTS = ("prompt", "negative_prompt", "style", "model", "scheduler", "aspect_ratio")
_WHOLE_NUMBERS = ("width", "height", "steps", "seed", "num_images")
_NUMBERS = ("guidance", "strength")
FIELDS = (*_TEXTS, *_WHOLE_NUMBERS, *_NUMBERS, "init_image", "format", "engine")
"""Columns and keys that a batch may have."""
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One task of a batch."""

    number: int
    """From 1, in the order of the file."""
    task: ImageTask
    engine: str = ""
    label: str = ""
    """What tells it apart on a contact sheet; its prompt when empty."""

    @property
    def digest(self) -> str:
        """Changes with the task, so that a line that was edited is run again.

        It stays when a later version adds a field.
        """
        given = ", ".join(
            f"{one.name}={_describe(value)}"
            for one in dataclasses.fields(self.task)
            if (value := getattr(self.task, one.name)) != one.default
        )
        return hashlib.sha256(f"(ImageTask({given}), {self.engine!r})".encode()).hexdigest()[:16]


def _describe(value: object) -> str:
    """The whole value; the text of an enumeration."""
    return repr(str(value) if isinstance(value, str) else value)


def read_items(path: Path, defaults: Mapping[str, object]) -> tuple[BatchItem, ...]:
    """The tasks in a file; `defaults` are the values of fields that a line does not give.

    Raises:
        click.UsageError: the file cannot be read, or a line is invalid.
    """
    items = []
    try:
        for number, fields in enumerate(read_tasks(path), start=1):
            given = {
                name: value for name, value in fields.items() if value is not None and value != ""
            }
            try:
                items.append(build_item(number, {**defaults, **given}))
            except ValueError as error:
                raise click.UsageError(f"{path}: task {number}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise click.UsageError(f"cannot read {path}: {error}") from error
    if not items:
        raise click.UsageError(f"there are no tasks in {path}")
    return tuple(items)


def build_item(number: int, fields: Mapping[str, object]) -> BatchItem:
    """The task with those fields, as texts or as JSON values.

    Raises:
        ValueError: a field is unknown or has a wrong type, or there is no prompt.
    """
    item = BatchItem(number=number, task=ImageTask(prompt=""))
    for name, value in fields.items():
        item = set_field(item, name, value)
    if not item.task.prompt.strip() and item.task.init_image is None:
        raise ValueError("there is no prompt")
    return item


def set_field(item: BatchItem, name: str, value: object) -> BatchItem:
    """The item with another value of a field.

    Raises:
        ValueError: there is no such field, or the value is not of its type.
    """
    if name not in FIELDS:
        raise ValueError(f"no field {name!r}; there are {', '.join(FIELDS)}")
    if isinstance(value, list | dict | bool) or not _is_text(str(value)):
        raise ValueError(f"{name}: {value!r} does not fit")
    if name == "engine":
        return replace(item, engine=str(value))
    try:
        converted = _convert(name, value)
    except ValueError as error:
        raise ValueError(f"{name}: {value!r} does not fit") from error
    return replace(item, task=replace(item.task, **{name: converted}))  # type: ignore[arg-type]  # fields by name


def _is_text(value: str) -> bool:
    """Whether it can be written; JSON can escape halves of characters."""
    return all(not "\ud800" <= letter <= "\udfff" for letter in value)


def _convert(name: str, value: object) -> object:
    if name in _WHOLE_NUMBERS:
        return _convert_to_whole(str(value))
    if name in _NUMBERS:
        number = float(str(value))
        if not math.isfinite(number):
            raise ValueError("not a number")
        return number
    if name == "format":
        return ImageFormat(str(value))
    return Path(str(value)).expanduser() if name == "init_image" else str(value)


def _convert_to_whole(text: str) -> int:
    """A whole number, also as tables write it whose other cells are empty: 4.0."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError("not a whole number")
    return int(text.strip().partition(".")[0])
