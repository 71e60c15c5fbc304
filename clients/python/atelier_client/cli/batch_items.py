"""Reads the tasks of a batch: one prompt a line, a CSV table, or one JSON object a line."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from atelier_client.enums import ImageFormat
from atelier_client.tasks import ImageTask

_TEXTS = ("prompt", "negative_prompt", "style", "model", "scheduler", "aspect_ratio")
_WHOLE_NUMBERS = ("width", "height", "steps", "seed", "num_images")
_NUMBERS = ("guidance", "strength")
FIELDS = (*_TEXTS, *_WHOLE_NUMBERS, *_NUMBERS, "init_image", "format", "engine")
"""Columns and keys that a batch may have."""


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
        """Changes with the task, so that a line that was edited is run again."""
        return hashlib.sha256(repr((self.task, self.engine)).encode()).hexdigest()[:16]


def read_items(path: Path, defaults: Mapping[str, object]) -> tuple[BatchItem, ...]:
    """The tasks in a file; `defaults` are the values of fields that a line does not give.

    Raises:
        click.UsageError: the file cannot be read, or a line is invalid.
    """
    items = []
    try:
        for number, fields in enumerate(_read_lines(path), start=1):
            given = {
                name: value for name, value in fields.items() if value is not None and value != ""
            }
            try:
                items.append(build_item(number, {**defaults, **given}))
            except ValueError as error:
                raise click.UsageError(f"{path}: task {number}: {error}") from error
    except (OSError, ValueError, csv.Error, RecursionError) as error:
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
    if not item.task.prompt and item.task.init_image is None:
        raise ValueError("there is no prompt")
    return item


def set_field(item: BatchItem, name: str, value: object) -> BatchItem:
    """The item with another value of a field.

    Raises:
        ValueError: there is no such field, or the value is not of its type.
    """
    if name not in FIELDS:
        raise ValueError(f"no field {name!r}; there are {', '.join(FIELDS)}")
    if isinstance(value, list | dict) or not _is_text(str(value)):
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
        return int(str(value))
    if name in _NUMBERS:
        return float(str(value))
    if name == "format":
        return ImageFormat(str(value))
    return Path(str(value)).expanduser() if name == "init_image" else str(value)


def _read_lines(path: Path) -> Iterator[Mapping[str, object]]:
    """The fields of each task."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        match path.suffix.lower():
            case ".txt":
                yield from ({"prompt": line.strip()} for line in file if line.strip())
            case ".csv":
                yield from _read_rows(file)
            case ".jsonl":
                lines = (line for line in file if line.strip())
                yield from (_parse_object(line, number) for number, line in enumerate(lines, 1))
            case suffix:
                raise ValueError(
                    f"it must end with .txt, .csv or .jsonl, not {suffix or 'nothing'}"
                )


def _read_rows(file: Iterable[str]) -> Iterator[Mapping[str, object]]:
    """The rows of a table by its columns."""
    reader = csv.DictReader(file)
    columns = [name.strip() for name in reader.fieldnames or () if name.strip()]
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        raise ValueError(f"there are several columns {twice[0]!r}")
    yield from (_check_columns(row) for row in reader)


def _check_columns(row: Mapping[str | None, object]) -> Mapping[str, object]:
    if None in row:
        raise ValueError("a row has more cells than there are columns")
    return {str(name).strip(): value for name, value in row.items()}


def _parse_object(line: str, number: int) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"task {number}: {error.msg} at character {error.pos + 1}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{line.strip()[:40]!r} is not a JSON object")  # noqa: TRY004 - reported as one kind of error
    return value
