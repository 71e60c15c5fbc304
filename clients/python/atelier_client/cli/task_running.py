"""Runs one task as `generate` does: tells what was decided, shows progress, saves the outputs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atelier_client.cli.audio_views import check_spectrogram, save_spectrogram, show_waveform
from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.follow import cancel_and_print, follow_to_end
from atelier_client.cli.interruption import handle_interruptions
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import json_option
from atelier_client.cli.output_checks import check_target
from atelier_client.cli.output_names import Target, output_options, parse_target
from atelier_client.cli.progress import choose_display
from atelier_client.cli.receipt_notes import ReceiptNotes
from atelier_client.cli.saving import save_and_print
from atelier_client.cli.submit import submit_when_loaded
from atelier_client.cli.unknown_fields import refuse_unknown_fields
from atelier_client.results import Generation
from atelier_client.tasks import AudioTask, ImageTask, RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """The values of the options that say how a task is run and saved."""

    output: str | None
    force: bool
    detach: bool
    grid: bool
    spectrogram: Path | None
    quiet: bool
    as_json: bool

    def parse_target(self) -> Target:
        """Where the outputs go.

        Raises:
            click.UsageError: the name is invalid, or nothing is saved.
        """
        if self.detach and self.output is not None:
            raise click.UsageError("--detach saves nothing: give --output to `watch` or `show`")
        return parse_target(self.output, force=self.force)


def run_options(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Add these options to a command, which gets them as the parameter `run`."""

    @functools.wraps(command)
    def collect(**values: object) -> int | None:
        own = {name: values.pop(name) for name in RunArguments.__slots__}
        return command(run=RunArguments(**own), **values)  # type: ignore[arg-type]  # fields by name

    collect = json_option(collect)
    collect = click.option(
        "--grid", is_flag=True, help="Save a contact sheet of several images, too."
    )(collect)
    collect = click.option(
        "--spectrogram",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Save a spectrogram of the audio as a PNG, too.",
    )(collect)
    collect = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="Show neither the id and engine nor progress.",
    )(collect)
    collect = click.option(
        "--detach", is_flag=True, help="Return once it is accepted; see `watch`."
    )(collect)
    return output_options(collect)


def run_task(
    client: Client,
    task: ImageTask | AudioTask,
    keywords: RequestKeywords,
    target: Target,
    run: RunArguments,
) -> int:
    """Run a task to its end and save its outputs; returns the exit code.

    Raises:
        click.UsageError: a file of that name exists, or cannot be written; nothing is started.
        AtelierError: it was refused, failed or was cancelled.
    """
    check_target(target, task, keywords.get("engine", ""))
    check_spectrogram(run.spectrogram, task, detach=run.detach)
    handle_interruptions()
    refuse_unknown_fields(client, task, keywords)
    notes = ReceiptNotes(task, quiet=run.quiet)
    accepted = submit_when_loaded(client, task, keywords)
    if run.detach:
        _print_accepted(accepted, notes, as_json=run.as_json)
        return ExitCode.OK
    if not (run.quiet or run.as_json):
        click.echo(f"id {accepted.id}", err=True)
    if not run.as_json:
        notes.show(accepted)
    try:
        shown = choose_display(as_json=run.as_json, quiet=run.quiet)
        finished = follow_to_end(client, accepted.id, shown, fetch=True)
    except KeyboardInterrupt:
        cancel_and_print(client, accepted.id)
        return ExitCode.INTERRUPTED
    if not run.as_json:
        notes.show(finished)
    if not (run.quiet or run.as_json):
        show_waveform(finished)
    save_and_print(finished, target, as_json=run.as_json, grid=run.grid)
    if run.spectrogram is not None:
        save_spectrogram(finished, run.spectrogram)
    return ExitCode.OK


def _print_accepted(accepted: Generation, notes: ReceiptNotes, *, as_json: bool) -> None:
    """Print the id for `watch`, `show` and `cancel`."""
    if as_json:
        echo_json({"generation": accepted})
    else:
        notes.show(accepted)
        click.echo(accepted.id)
