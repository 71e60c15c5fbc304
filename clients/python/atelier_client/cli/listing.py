"""`atelier list`: generations, newest first."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import click
from rich.console import Console

from atelier_client.cli.completion_values import complete_engine
from atelier_client.cli.connection import connect
from atelier_client.cli.generation_lines import format_generations
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.enums import State

_MAX_PAGE_SIZE = 100


@click.command("list")
@click.option(
    "--engine",
    default="",
    shell_complete=complete_engine,
    help="List only generations of this engine.",
)
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
    """List generations, newest first, in local time; failed ones with the reason."""
    wanted = tuple(State(state) for state in states)
    with connect(server) as client:
        pages = client.list(engine=engine, states=wanted, page_size=min(limit, _MAX_PAGE_SIZE))
        with closing(pages):
            found = tuple(islice(pages, limit))
    if as_json:
        echo_json({"generations": found})
        return
    for line in format_generations(found, Console().width):
        click.echo(line)
