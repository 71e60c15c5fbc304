"""Shows the progress of a generation in a notebook, with IPython's display alone."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import aclosing, closing
from typing import Protocol, overload

from atelier_client import notebook_html
from atelier_client.errors import AtelierError, InternalError, MissingPackageError
from atelier_client.results import Generation, Progress

_SECONDS_BETWEEN_UPDATES = 0.1


class _Shown(Protocol):
    """An output of a notebook's cell, as `IPython.display.DisplayHandle` has it."""

    def update(self, obj: object, **keywords: object) -> object: ...


@overload
def show_progress(events: Generator[Progress]) -> Generation: ...
@overload
def show_progress(events: AsyncGenerator[Progress]) -> Coroutine[None, None, Generation]: ...
def show_progress(
    events: Generator[Progress] | AsyncGenerator[Progress],
) -> Generation | Coroutine[None, None, Generation]:
    """Show a bar and the previews while a generation runs, then its outputs; returns the generation.

    `events` are those of `client.stream` or `client.follow(…, fetch=True)`; with those of an AsyncClient,
    await the result. Interrupting the cell closes them, which cancels what `stream` started.

    Raises:
        MissingPackageError: IPython is not installed.
        AtelierError: the generation failed or was cancelled.
    """
    if isinstance(events, AsyncGenerator):
        return _show_async(events)
    display = _Display()
    with closing(events), display:
        for event in events:
            display.add(event)
    return display.result()


async def _show_async(events: AsyncGenerator[Progress]) -> Generation:
    display = _Display()
    async with aclosing(events):
        with display:
            async for event in events:
                display.add(event)
    return display.result()


class _Display:
    """One output cell, updated at most ten times a second."""

    def __init__(self) -> None:
        self._html, self._shown = _open_cell()
        self._preview = ""
        self._last: Progress | None = None
        self._next_update = 0.0

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            text = str(error) if isinstance(error, AtelierError) else "interrupted"
            self._update(text)

    def add(self, event: Progress) -> None:
        """Show the event, unless one was shown just now; the last one is always shown."""
        self._last = event
        if event.preview is not None:
            preview = event.preview
            self._preview = notebook_html.image_tag(preview.media_type, preview.data, "preview")
        if event.generation is not None:
            self._shown.update(event.generation)
        elif time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + _SECONDS_BETWEEN_UPDATES
            self._update(_describe(event))

    def result(self) -> Generation:
        """The generation of the last event."""
        if self._last is None or self._last.generation is None:
            raise InternalError("the events of the generation ended before it did")
        return self._last.generation

    def _update(self, text: str) -> None:
        fraction = self._last.progress if self._last else 0.0
        self._shown.update(self._html(notebook_html.progress_bar(fraction, text, self._preview)))


def _open_cell() -> tuple[type, _Shown]:
    """IPython's HTML class, and a new output that is still empty."""
    try:
        from IPython.display import HTML, DisplayHandle  # noqa: PLC0415 - a notebook has it
    except ImportError as error:
        raise MissingPackageError("IPython is not installed: pip install ipython") from error
    handle = DisplayHandle()
    handle.display(HTML(notebook_html.progress_bar(0.0, "")))
    return HTML, handle


def _describe(event: Progress) -> str:
    if event.queue_position is not None:
        return f"{event.state}, {event.queue_position} ahead"
    steps = f" {event.step}/{event.steps}" if event.steps else ""
    remaining = event.estimated_remaining_seconds
    left = f", {remaining:.0f} s left" if remaining is not None else ""
    return f"{event.stage or event.state}{steps}{left}"
