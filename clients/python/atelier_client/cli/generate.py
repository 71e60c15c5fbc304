"""`atelier generate`: runs a task, shows its progress, saves its outputs."""

from __future__ import annotations

import click

from atelier_client.cli.connection import connect
from atelier_client.cli.matrix import Axis, parse_axis, run_matrix
from atelier_client.cli.options import server_option
from atelier_client.cli.speech import choose_speaker
from atelier_client.cli.task_building import build_keywords, build_task
from atelier_client.cli.task_options import TaskArguments, task_options
from atelier_client.cli.task_running import RunArguments, run_options, run_task


@click.command("generate")
@task_options
@click.argument("axes", nargs=-1, metavar="")
@click.option(
    "--matrix",
    type=parse_axis,
    multiple=True,
    metavar="FIELD=VALUE,...",
    help="Run every combination of these values, such as --matrix steps=4,8 guidance=1,3; --output is a folder.",
)
@run_options
@server_option
def generate_command(
    *,
    arguments: TaskArguments,
    axes: tuple[str, ...],
    matrix: tuple[Axis, ...],
    run: RunArguments,
    server: str,
) -> int | None:
    """Generate images or audio from PROMPT; - reads it from standard input.

    While the engine is loading, the command waits. Ctrl-C cancels the generation.
    """
    if axes and not matrix:
        raise click.UsageError(f"unexpected {axes[0]!r}: put the prompt in quotes")
    target = run.parse_target()
    task = build_task(arguments, target)
    keywords = build_keywords(arguments)
    if matrix and run.spectrogram is not None:
        raise click.UsageError("--matrix makes many files: give no --spectrogram")
    with connect(server) as client:
        keywords = choose_speaker(client, arguments, keywords)
        if matrix:
            every = (*matrix, *map(parse_axis, axes))
            return run_matrix(client, task, keywords, every, run)
        return run_task(client, task, keywords, target, run)
