"""`atelier show`: the state, outputs and parameters of a generation."""

from __future__ import annotations

import click
from rich.console import Console

from atelier_client.cli.completion_values import complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.cli.output_files import save_outputs
from atelier_client.cli.output_names import output_options, parse_target
from atelier_client.cli.parameter_table import build_parameter_table, describe_engine
from atelier_client.cli.printable import strip_control_characters
from atelier_client.enums import CancelCause, Priority
from atelier_client.results import Generation


@click.command("show")
@click.argument("generation_id", metavar="ID", shell_complete=complete_id)
@output_options
@connection_options
def show_command(
    *, generation_id: str, output: str | None, force: bool, server: str, as_json: bool
) -> None:
    """Show the state, outputs and parameters of the generation ID.

    ID may be the beginning of one, or @last.
    """
    target = parse_target(output, force=force)
    with connect(server) as client:
        generation = client.get(resolve_id(client, generation_id))
        if output is not None:
            generation = client.fetch(generation)
    paths = [] if output is None else [str(path) for path in save_outputs(generation, target)]
    if as_json:
        echo_json({"generation": generation, "files": paths})
        return
    for name, value in _summarize(generation):
        click.echo(f"{name:<10} {strip_control_characters(value)}")
    for path in paths:
        click.echo(f"{'saved':<10} {path}")
    if generation.receipt is not None:
        Console().print(build_parameter_table(generation.receipt.parameters))


def _summarize(generation: Generation) -> list[tuple[str, str]]:
    took = generation.seconds
    selection = None if generation.receipt is None else generation.receipt.selection
    facts = [
        ("id", generation.id),
        ("request", generation.request_id),
        ("state", generation.state.value),
        ("engine", describe_engine(generation.engine, selection)),
        ("prompt", generation.prompt),
        *([("asked by", generation.subject)] if generation.subject else []),
        *([("priority", "batch")] if generation.priority is Priority.BATCH else []),
        ("time", "" if took is None else f"{took:.1f} s"),
    ]
    facts += [
        (
            "output",
            f"{made.artifact.id} {made.media_type} {made.artifact.size} bytes seed {made.seed}",
        )
        for made in generation.outputs
    ]
    if generation.receipt is not None and (reuse := generation.receipt.reuse):
        facts.append(("made of", f"{reuse.prompt} (before, similarity {reuse.similarity:.2f})"))
    if generation.failure is not None:
        facts.append(("failure", f"{generation.failure.message} ({generation.failure.reason})"))
    if generation.cancel_cause is CancelCause.QUEUE_CLEARED:
        facts.append(
            ("cancelled", f"with its queue: {generation.cancel_reason}".removesuffix(": "))
        )
    return facts
