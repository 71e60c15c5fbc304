"""Displays of the progress of a generation: a bar, lines, JSON lines, or nothing."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

import click
from rich.console import Console, RenderableType
from rich.control import Control
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import ControlType, Segment
from rich.text import Text

from atelier_client import environment, results
from atelier_client.cli import previews
from atelier_client.cli.half_blocks import render_half_blocks
from atelier_client.cli.json_output import echo_json
from atelier_client.enums import State


class Display(Protocol):
    """Shows the events of a generation; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, event: results.Progress) -> None:
        """Show one event."""


def choose_display(*, as_json: bool, quiet: bool) -> Display:
    """JSON lines on stdout with `as_json`; else a bar on a terminal, lines in a log."""
    if as_json:
        return JsonLines()
    if quiet:
        return NullDisplay()
    return ProgressBar() if can_draw(Console(stderr=True)) else LineDisplay()


def can_draw(console: Console) -> bool:
    """Whether what is printed can be changed later: on a terminal, unless it is a dumb one."""
    return console.file.isatty() and not console.is_dumb_terminal


def describe_stage(event: results.Progress) -> str:
    """The state in a few words: `queued, 2 ahead`, `denoise 3/8`, `succeeded`."""
    if event.state is State.QUEUED:
        ahead = event.queue_position
        return f"queued, {ahead} ahead" if ahead else "queued"
    if event.state.ended:
        return str(event.state)
    steps = f" {event.step}/{event.steps}" if event.steps else ""
    again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
    return f"{event.stage or event.state}{steps}{again}"


class NullDisplay:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, event: results.Progress) -> None:
        """Show nothing."""


class JsonLines(NullDisplay):
    """One line of JSON on stdout for each event."""

    def show(self, event: results.Progress) -> None:
        """Print the event."""
        echo_json({"event": event})


class LineDisplay(NullDisplay):
    """One line on stderr for each change, for logs."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, event: results.Progress) -> None:
        """Print the state, if it has changed."""
        text = describe_stage(event)
        if text != self._last:
            click.echo(f"{event.progress:4.0%}  {text}", err=True)
        self._last = text


class _BarBelowPreview(Progress):
    """A bar, and above it a preview that is drawn with characters."""

    preview: Text | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """The preview, if there is one, and the bar."""
        if self.preview is not None:
            yield self.preview
        yield from super().get_renderables()


class ProgressBar:
    """A bar on stderr, with previews above it: images if the terminal supports them, else coloured characters."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._protocol = previews.detect_protocol(environment.read_terminal())
        self._has_room = False
        self._progress = _BarBelowPreview(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[remaining]}", markup=False),
            console=self._console,
        )
        self._task = self._progress.add_task("waiting", total=1.0, remaining="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, event: results.Progress) -> None:
        """Update the bar, and show the preview if there is one."""
        left = event.estimated_remaining_seconds
        self._progress.update(
            self._task,
            completed=event.progress,
            description=Text(describe_stage(event)).plain,
            remaining="" if left is None or event.state.ended else f"{left:.0f} s left",
        )
        if event.preview is not None:
            self._show_preview(event.preview)

    def _show_preview(self, preview: results.Preview) -> None:
        if self._console.height <= previews.ROWS + 1:
            return
        sequence = previews.render(preview, self._protocol)
        if not sequence:
            self._draw_preview(preview)
            return
        if not self._has_room:
            self._progress.print("\n" * (previews.ROWS - 1))
            self._has_room = True
        control = Control()
        control.segment = Segment(sequence, None, [(ControlType.HOME,)])
        self._console.control(control)

    def _draw_preview(self, preview: results.Preview) -> None:
        """Draw with characters, on a terminal with colours."""
        if self._console.color_system is not None and not self._console.no_color:
            self._progress.preview = render_half_blocks(
                preview, columns=self._console.width, rows=previews.ROWS
            )
