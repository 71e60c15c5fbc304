"""Follows a generation on the terminal, and stops it when the user wishes so."""

from __future__ import annotations

import signal
from contextlib import closing
from typing import TYPE_CHECKING

import click

from atelier_client.cli.progress import Display
from atelier_client.enums import CancelOutcome
from atelier_client.errors import AtelierError
from atelier_client.results import Cancellation, Generation

if TYPE_CHECKING:
    from atelier_client.client import Client

_TOLD = {
    CancelOutcome.UNSPECIFIED: "the server did not say how the cancellation went",
    CancelOutcome.NEVER_STARTED: "cancelled before it started",
    CancelOutcome.STOPPED: "cancelled at step {step}",
    CancelOutcome.TOO_LATE: "too late to cancel: it had ended",
    CancelOutcome.VENDOR_MAY_BILL: "cancelled here; the vendor may finish and bill it",
}


def interruptible() -> None:
    """Let SIGTERM interrupt as Ctrl-C does, so that `timeout` and supervisors cancel too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def follow_to_end(
    client: Client,
    generation_id: str,
    display: Display,
    *,
    fetch: bool,
    after_sequence: int = 0,
) -> Generation:
    """Show every event and return the finished generation, with its outputs' bytes if asked for.

    Raises:
        AtelierError: the generation failed or was cancelled, or cannot be followed.
    """
    finished = None
    events = client.follow(generation_id, after_sequence=after_sequence, fetch=fetch)
    with display, closing(events):
        for event in events:
            display.show(event)
            finished = event.generation
    if finished is None:  # it had ended before the event that was asked for
        finished = client.get(generation_id)
    return client.fetch(finished) if fetch else finished


def cancel_and_print(client: Client, generation_id: str) -> None:
    """Cancel a generation and say on stderr what the server answered."""
    try:
        click.echo(cancellation_text(client.cancel(generation_id)), err=True)
    except AtelierError as error:
        click.echo(f"error: generation {generation_id} may still run: {error}", err=True)


def cancellation_text(cancellation: Cancellation) -> str:
    """What was really stopped, in a few words."""
    told = _TOLD[cancellation.outcome].format(step=cancellation.stopped_at_step)
    return f"{cancellation.generation.id}: {told}"
