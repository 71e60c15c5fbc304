"""Generations as lines that fit the terminal, one each, and one more for why it failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from atelier_client.cli.printable import strip_control_characters
from atelier_client.enums import CancelCause
from atelier_client.results import Generation

_HEADERS = ("id", "state", "engine", "accepted", "prompt")
_SHORT_ID_LENGTH = 14
"""So much of an id says its millisecond and has four characters more; any command takes the beginning of an id."""
_MIN_WIDTH_OF_WHOLE_IDS = 110
_MAX_ENGINE_WIDTH = 12
_INDENT = 4


def format_generations(generations: Sequence[Generation], width: int) -> Iterator[str]:
    """A header and the lines, in local time, each at most `width` columns wide."""
    id_length = None if width >= _MIN_WIDTH_OF_WHOLE_IDS else _SHORT_ID_LENGTH
    rows = [_format_row(generation, id_length) for generation in generations]
    widths = [
        max(cell_len(cell) for cell in column) for column in zip(_HEADERS, *rows, strict=True)
    ]
    yield _join(_HEADERS, widths, width)
    for row, generation in zip(rows, generations, strict=True):
        yield _join(row, widths, width)
        if reason := _explain_end(generation):
            yield " " * _INDENT + shorten(reason, width - _INDENT)


def shorten(text: str, width: int) -> str:
    """The text in one line of at most so many columns."""
    plain = strip_control_characters(text)
    return plain if cell_len(plain) <= width else set_cell_size(plain, width - 1) + "…"


def format_time(time: datetime | None) -> str:
    """The local time, with the date if that is not today's."""
    if time is None:
        return ""
    local = time.astimezone()
    is_today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%m-%d %H:%M}"


def _explain_end(generation: Generation) -> str:
    """Why it failed, or was cancelled with its queue; empty if neither."""
    if generation.failure is not None:
        return f"{generation.failure.reason}: {generation.failure.message}"
    if generation.cancel_cause is CancelCause.QUEUE_CLEARED:
        return f"its queue was cleared: {generation.cancel_reason}".removesuffix(": ")
    return ""


def _format_row(generation: Generation, id_length: int | None) -> tuple[str, ...]:
    return (
        generation.id[:id_length],
        generation.state.value,
        shorten(generation.engine, _MAX_ENGINE_WIDTH),
        format_time(generation.create_time),
        strip_control_characters(generation.prompt),
    )


def _join(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    padded = (set_cell_size(cell, wide) for cell, wide in zip(cells, widths, strict=True))
    return shorten("  ".join(padded).rstrip(), width)
