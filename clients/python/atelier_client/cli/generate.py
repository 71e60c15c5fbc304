"""`atelier generate`: makes something, shows how it comes along, saves it."""

from __future__ import annotations

from pathlib import Path

import click

from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.following import cancel_and_print, follow_to_end, interruptible
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.progress import display
from atelier_client.cli.saving import save_outputs
from atelier_client.cli.task_options import (
    TaskArguments,
    keywords_from,
    task_from,
    task_options,
)
from atelier_client.results import Generation

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to save to; several outputs are numbered.  [default: named after the prompt]",
)


@click.command("generate")
@task_options
@output_option
@click.option("--detach", is_flag=True, help="Return as soon as it is accepted; `watch` it later.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
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
    """Make pictures, or a sound, from PROMPT.

    Ctrl-C cancels the generation and says how far it had come.
    """
    task = task_from(arguments, output)
    keywords = keywords_from(arguments)
    interruptible()
    with connect(server) as client:
        accepted = client.submit(task, **keywords)
        if detach:
            print_accepted(accepted, as_json=as_json)
            return ExitCode.OK
        try:
            shown = display(as_json=as_json, quiet=quiet)
            finished = follow_to_end(client, accepted.id, shown, fetch=True)
        except KeyboardInterrupt:
            cancel_and_print(client, accepted.id)
            return ExitCode.INTERRUPTED
        save_and_print(finished, output, as_json=as_json)
    return ExitCode.OK


def save_and_print(finished: Generation, output: Path | None, *, as_json: bool) -> None:
    """Save every output and say where, with the seed, the engine and the time."""
    paths = save_outputs(finished, output)
    if as_json:
        echo_json({"generation": finished, "files": [str(path) for path in paths]})
        return
    took = "" if finished.seconds is None else f", {finished.seconds:.1f} s"
    for path, made in zip(paths, finished.outputs, strict=True):
        flagged = ", flagged by a safety check" if made.flagged else ""
        click.echo(f"{path}  (seed {made.seed}, engine {finished.engine}{took}{flagged})")


def print_accepted(accepted: Generation, *, as_json: bool) -> None:
    """Say the id that `watch`, `show` and `cancel` take."""
    if as_json:
        echo_json({"generation": accepted})
    else:
        click.echo(accepted.id)
