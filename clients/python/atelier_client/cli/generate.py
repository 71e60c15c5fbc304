"""`atelier generate`: runs a task, shows its progress, saves its outputs."""

from __future__ import annotations

import click

from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.follow import cancel_and_print, follow_to_end, handle_sigterm
from atelier_client.cli.image_ratios import apply_ratio
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.output_names import Target, output_options, parse_target
from atelier_client.cli.progress import choose_display
from atelier_client.cli.receipt_notes import ReceiptNotes
from atelier_client.cli.saving import save_and_print
from atelier_client.cli.submit import submit_when_loaded
from atelier_client.cli.task_building import build_keywords, build_task
from atelier_client.cli.task_options import TaskArguments, task_options
from atelier_client.results import Generation
from atelier_client.tasks import AudioTask, ImageTask


@click.command("generate")
@task_options
@output_options
@click.option("--detach", is_flag=True, help="Return once it is accepted; see `watch`.")
@click.option("-q", "--quiet", is_flag=True, help="Show neither the id nor progress.")
@connection_options
def generate_command(
    *,
    arguments: TaskArguments,
    output: str | None,
    force: bool,
    detach: bool,
    quiet: bool,
    server: str,
    as_json: bool,
) -> int | None:
    """Generate images or audio from PROMPT; - reads it from standard input.

    While the engine is loading, the command waits. Ctrl-C cancels the generation.
    """
    target = parse_target(output, force=force)
    task = build_task(arguments, target)
    if detach and output is not None:
        raise click.UsageError("--detach saves nothing: give --output to `watch` or `show`")
    _reject_existing_files(target, task)
    keywords = build_keywords(arguments)
    handle_sigterm()
    notes = ReceiptNotes()
    with connect(server) as client:
        task = apply_ratio(client, task, keywords, arguments.ratio)
        accepted = submit_when_loaded(client, task, keywords)
        if detach:
            _print_accepted(accepted, notes, as_json=as_json)
            return ExitCode.OK
        if not (quiet or as_json):
            click.echo(f"id {accepted.id}", err=True)
        if not as_json:
            notes.show(accepted)
        try:
            shown = choose_display(as_json=as_json, quiet=quiet)
            finished = follow_to_end(client, accepted.id, shown, fetch=True)
        except KeyboardInterrupt:
            cancel_and_print(client, accepted.id)
            return ExitCode.INTERRUPTED
        if not as_json:
            notes.show(finished)
        save_and_print(finished, target, as_json=as_json)
    return ExitCode.OK


def _reject_existing_files(target: Target, task: ImageTask | AudioTask) -> None:
    """Refuse, before anything is started, what could not be saved."""
    count = task.num_images if isinstance(task, ImageTask) else None
    if conflict := target.describe_conflict(count or 1):
        raise click.UsageError(conflict)


def _print_accepted(accepted: Generation, notes: ReceiptNotes, *, as_json: bool) -> None:
    """Print the id for `watch`, `show` and `cancel`."""
    if as_json:
        echo_json({"generation": accepted})
    else:
        notes.show(accepted)
        click.echo(accepted.id)
