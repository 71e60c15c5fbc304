"""`atelier list`: generations, newest first."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.printable import strip_control_characters
from atelier_client.enums import State
from atelier_client.results import Generation

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


def _format_row(generation: Generation) -> tuple[str, ...]:
    accepted = generation.create_time
    return (
        generation.id,
        generation.state.value,
        generation.engine,
        "" if accepted is None else accepted.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        generation.prompt,
    )
