"""Follows a generation on the terminal, and cancels it on Ctrl-C."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from atelier_client.cli.interruption import raise_if_interrupted
from atelier_client.cli.progress import Display
from atelier_client.enums import CancelOutcome
from atelier_client.errors import AtelierError
from atelier_client.results import Cancellation, Generation

if TYPE_CHECKING:
    from atelier_client.client import Client

_OUTCOME_TEXTS = {
    CancelOutcome.UNSPECIFIED: "the server did not report the result of the cancellation",
    CancelOutcome.NEVER_STARTED: "cancelled before it started",
    CancelOutcome.STOPPED: "cancelled at step {step}",
    CancelOutcome.TOO_LATE: "too late to cancel: it had already ended",
    CancelOutcome.VENDOR_MAY_BILL: "cancelled here; the remote service may still run and bill it",
    CancelOutcome.MAY_GO_ON: "cancelled here; the remote service, which bills nothing, may still run it",
}


def follow_to_end(
    client: Client,
    generation_id: str,
    display: Display,
    *,
    fetch: bool,
    after_sequence: int = 0,
) -> Generation:
    """Show every event, and return the finished generation; with `fetch`, with the bytes of its outputs.

    Raises:
        AtelierError: the generation failed or was cancelled, or cannot be followed.
    """
    raise_if_interrupted()
    finished = None
    events = client.follow(generation_id, after_sequence=after_sequence, fetch=fetch)
    with display, closing(events):
        for event in events:
            raise_if_interrupted()
            display.show(event)
            finished = event.generation
    if finished is None:  # it had ended before the event that was asked for
        finished = client.get(generation_id)
    return client.fetch(finished) if fetch else finished


def cancel_and_print(client: Client, generation_id: str) -> None:
    """Cancel a generation, and print the result on stderr."""
    try:
        click.echo(describe_cancellation(client.cancel(generation_id)), err=True)
    except AtelierError as error:
        click.echo(f"error: generation {generation_id} may still be running: {error}", err=True)


def describe_cancellation(cancellation: Cancellation) -> str:
    """The result of a cancellation in a few words."""
    outcome = _OUTCOME_TEXTS[cancellation.outcome].format(step=cancellation.stopped_at_step)
    return f"{cancellation.generation.id}: {outcome}"
