"""Reads the files of a batch as fields by name: one prompt a line, a CSV table, or one JSON object a line."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

_SEPARATORS = ",;\t"
"""Of the cells of a table: spreadsheets write semicolons where a comma is part of numbers."""


def read_tasks(path: Path) -> Iterator[Mapping[str, object]]:
    """The fields of each task.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, has another suffix, or is damaged.
    """
    match path.suffix.lower():
        case ".txt":
            yield from ({"prompt": line.strip()} for line in _read_lines(path))
        case ".csv":
            yield from _read_rows(_read_text(path))
        case ".jsonl":
            lines = enumerate(_read_lines(path), start=1)
            yield from (_parse_object(line, number) for number, line in lines)
        case suffix:
            raise ValueError(f"it must end with .txt, .csv or .jsonl, not {suffix or 'nothing'}")


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8 text; save the file as UTF-8") from error


def _read_lines(path: Path) -> Iterator[str]:
    """The lines that are not blank; only line feeds and carriage returns end one."""
    return (line for line in io.StringIO(_read_text(path), newline="") if line.strip())


def _read_rows(text: str) -> Iterator[Mapping[str, object]]:
    """The rows of a table by its columns; rows without any text are left out."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns:
                yield _name_cells(columns, cells)
            else:
                columns = cells
                _check_columns(columns)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _check_columns(columns: list[str]) -> None:
    twice = [name for name, count in Counter(filter(None, columns)).items() if count > 1]
    if twice:
        raise ValueError(f"there are several columns {twice[0]!r}")


def _name_cells(columns: list[str], cells: list[str]) -> Mapping[str, object]:
    named = dict(zip(columns, cells, strict=False))
    if any(cells[len(columns) :]) or named.get(""):
        raise ValueError("a row has more cells than there are columns; quote text with commas")
    return {name: cell for name, cell in named.items() if name}


def _parse_object(line: str, number: int) -> Mapping[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"task {number}: {error.msg} at character {error.pos + 1}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{line.strip()[:40]!r} is not a JSON object")  # noqa: TRY004 - reported as one kind of error
    return value
