"""`atelier generate`: runs a task, shows its progress, saves its outputs."""

from __future__ import annotations

from pathlib import Path

import click

from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.follow import cancel_and_print, follow_to_end, handle_sigterm
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.output_files import save_outputs
from atelier_client.cli.progress import choose_display
from atelier_client.cli.submit import submit_when_loaded
from atelier_client.cli.task_options import (
    TaskArguments,
    build_keywords,
    build_task,
    task_options,
)
from atelier_client.enums import SelectionReason
from atelier_client.results import Generation

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file; several outputs are numbered.  [default: named after the prompt]",
)


@click.command("generate")
@task_options
@output_option
@click.option("--detach", is_flag=True, help="Return once it is accepted; see `watch`.")
@click.option("-q", "--quiet", is_flag=True, help="Do not show progress.")
@connection_options
def generate_command(
    *,
    arguments: TaskArguments,
    output: Path | None,
    detach: bool,
    quiet: bool,
    server: str,
    as_json: bool,
) -> int | None:
    """Generate images or audio from PROMPT.

    While the engine is loading, the command waits. Ctrl-C cancels the generation.
    """
    task = build_task(arguments, output)
    keywords = build_keywords(arguments)
    handle_sigterm()
    with connect(server) as client:
        accepted = submit_when_loaded(client, task, keywords)
        if detach:
            print_accepted(accepted, as_json=as_json)
            return ExitCode.OK
        try:
            shown = choose_display(as_json=as_json, quiet=quiet)
            finished = follow_to_end(client, accepted.id, shown, fetch=True)
        except KeyboardInterrupt:
            cancel_and_print(client, accepted.id)
            return ExitCode.INTERRUPTED
        save_and_print(finished, output, as_json=as_json)
    return ExitCode.OK


def save_and_print(finished: Generation, output: Path | None, *, as_json: bool) -> None:
    """Save every output, and print its file, seed, engine and time."""
    paths = save_outputs(finished, output)
    if as_json:
        echo_json({"generation": finished, "files": [str(path) for path in paths]})
        return
    took = "" if finished.seconds is None else f", {finished.seconds:.1f} s"
    why = _describe_reason(finished)
    for path, made in zip(paths, finished.outputs, strict=True):
        flagged = ", flagged by a safety check" if made.flagged else ""
        click.echo(f"{path}  (seed {made.seed}, engine {finished.engine}{why}{took}{flagged})")


def _describe_reason(finished: Generation) -> str:
    """Why the engine was selected, in two words; empty where the caller named it."""
    selection = None if finished.receipt is None else finished.receipt.selection
    match None if selection is None else selection.reason:
        case SelectionReason.DEFAULT:
            return " by default"
        case (
            SelectionReason.CHEAPEST | SelectionReason.FASTEST | SelectionReason.FALLBACK as reason
        ):
            return f" as {reason}"
        case _:
            return ""


def print_accepted(accepted: Generation, *, as_json: bool) -> None:
    """Print the id for `watch`, `show` and `cancel`."""
    if as_json:
        echo_json({"generation": accepted})
    else:
        click.echo(accepted.id)
