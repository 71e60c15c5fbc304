"""Tells on stderr what a receipt says beyond the request: the engine that was chosen, and values that were changed."""

from __future__ import annotations

from collections.abc import Iterator

import click

from atelier_client.cli.printable import strip_control_characters
from atelier_client.cli.unknown_fields import find_unknown_fields
from atelier_client.enums import Disposition, SelectionReason
from atelier_client.results import Generation, Parameter
from atelier_client.tasks import AudioTask, ImageTask

_MAX_VALUE_LENGTH = 60


class ReceiptNotes:
    """Prints each note once, also when the receipt is shown again with more in it."""

    def __init__(self, task: ImageTask | AudioTask, *, quiet: bool) -> None:
        """Tell of this task, as it was requested; `quiet` only what was changed."""
        self._task = task
        self._quiet = quiet
        self._printed: set[str] = set()

    def show(self, generation: Generation) -> None:
        """Print the notes that are new."""
        origin = () if self._quiet else _describe_origin(generation)
        for note in (*origin, *_describe_changes(generation, self._task)):
            if note not in self._printed:
                self._printed.add(note)
                click.echo(strip_control_characters(note), err=True)


def _describe_origin(generation: Generation) -> Iterator[str]:
    """A line on the engine unless the request named it, and one on what was made before."""
    if generation.receipt is None:
        return
    selection = generation.receipt.selection
    if selection is not None and selection.reason is not SelectionReason.NAMED:
        yield f"engine {generation.engine}: {selection.explanation}"
    if reuse := generation.receipt.reuse:
        alike = f"similarity {reuse.similarity:.2f}"
        yield f"made before, of {_shorten(reuse.prompt)!r} ({alike}); give a seed for a new one"


def _describe_changes(generation: Generation, task: ImageTask | AudioTask) -> Iterator[str]:
    """A line on each value that was changed."""
    if generation.receipt is None:
        return
    for parameter in generation.receipt.parameters:
        if change := _describe_change(parameter):
            yield f"{parameter.name} {change}: {parameter.explanation}"
    for name in find_unknown_fields(task, generation.receipt.parameters):
        yield f"{name} ignored: this server is older than the client and does not know it"


def _describe_change(parameter: Parameter) -> str:
    """How the value was changed; empty if it was not."""
    match parameter.disposition:
        case Disposition.CLAMPED:
            return f"{_shorten(parameter.requested)} clamped to {_shorten(parameter.value)}"
        case Disposition.EMULATED:
            return f"{_shorten(parameter.requested)} emulated"
        case Disposition.IGNORED:
            return f"{_shorten(parameter.requested)} ignored"
        case _:
            return ""


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"
