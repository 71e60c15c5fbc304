"""`atelier list`, `show` and `cancel`."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.cli.follow import describe_cancellation
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.output_files import save_outputs
from atelier_client.enums import Disposition, State
from atelier_client.results import Generation, Parameter, Selection

_MAX_PAGE_SIZE = 100


@click.command("list")
@click.option("--engine", default="", help="List only generations of this engine.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in list(State)[1:]]),
    help="List only generations in this state; may be repeated.",
)
@click.option("--limit", default=20, type=click.IntRange(min=1), show_default=True)
@connection_options
def list_command(
    *, engine: str, states: tuple[str, ...], limit: int, server: str, as_json: bool
) -> None:
    """List generations, newest first."""
    wanted = tuple(State(state) for state in states)
    with connect(server) as client:
        pages = client.list(engine=engine, states=wanted, page_size=min(limit, _MAX_PAGE_SIZE))
        with closing(pages):
            found = tuple(islice(pages, limit))
    if as_json:
        echo_json({"generations": found})
        return
    table = Table("id", "state", "engine", "accepted", "prompt", box=None)
    for generation in found:
        table.add_row(*(Text(strip_control_characters(cell)) for cell in _format_row(generation)))
    Console().print(table)


@click.command("show")
@click.argument("generation_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the outputs to this file.",
)
@connection_options
def show_command(*, generation_id: str, output: Path | None, server: str, as_json: bool) -> None:
    """Show the state, outputs and parameters of the generation ID."""
    with connect(server) as client:
        generation = client.get(generation_id)
        if output is not None:
            generation = client.fetch(generation)
    paths = [] if output is None else [str(path) for path in save_outputs(generation, output)]
    if as_json:
        echo_json({"generation": generation, "files": paths})
        return
    for name, value in _summarize(generation):
        click.echo(f"{name:<10} {strip_control_characters(value)}")
    for path in paths:
        click.echo(f"{'saved':<10} {path}")
    if generation.receipt is not None:
        Console().print(build_parameter_table(generation.receipt.parameters))


@click.command("cancel")
@click.argument("generation_id", metavar="ID")
@connection_options
def cancel_command(*, generation_id: str, server: str, as_json: bool) -> None:
    """Cancel the generation ID, and print the result."""
    with connect(server) as client:
        cancellation = client.cancel(generation_id)
    if as_json:
        echo_json(cancellation)
    else:
        click.echo(describe_cancellation(cancellation))


def build_parameter_table(parameters: tuple[Parameter, ...]) -> Table:
    """A table of the parameters, as requested and as used."""
    table = Table("parameter", "value", "disposition", "explanation", box=None)
    for parameter in parameters:
        value = "" if parameter.value is None else str(parameter.value)
        asked = parameter.requested
        how = str(parameter.disposition)
        if parameter.disposition is not Disposition.APPLIED and asked is not None:
            how = f"{how} from {asked}"
        table.add_row(
            *(
                Text(strip_control_characters(cell))
                for cell in (parameter.name, value, how, parameter.explanation)
            )
        )
    return table


def describe_engine(name: str, selection: Selection | None) -> str:
    """The engine, and why it was selected."""
    return f"{name} ({selection.explanation})" if selection is not None else name


def strip_control_characters(text: str) -> str:
    """The text with control characters replaced by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _format_row(generation: Generation) -> tuple[str, ...]:
    accepted = generation.create_time
    return (
        generation.id,
        generation.state.value,
        generation.engine,
        "" if accepted is None else accepted.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        generation.prompt,
    )


def _summarize(generation: Generation) -> list[tuple[str, str]]:
    took = generation.seconds
    selection = None if generation.receipt is None else generation.receipt.selection
    facts = [
        ("id", generation.id),
        ("request", generation.request_id),
        ("state", generation.state.value),
        ("engine", describe_engine(generation.engine, selection)),
        ("prompt", generation.prompt),
        ("time", "" if took is None else f"{took:.1f} s"),
    ]
    facts += [
        (
            "output",
            f"{made.artifact.id} {made.media_type} {made.artifact.size} bytes seed {made.seed}",
        )
        for made in generation.outputs
    ]
    if generation.failure is not None:
        facts.append(("failure", f"{generation.failure.message} ({generation.failure.reason})"))
    return facts
