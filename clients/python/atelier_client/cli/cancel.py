"""`atelier cancel`: cancels one generation, several, or all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from atelier_client.cli.completion_values import complete_engine, complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.exit_codes import ExitCode, exit_code_for
from atelier_client.cli.follow import describe_cancellation
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.enums import State
from atelier_client.errors import AtelierError

if TYPE_CHECKING:
    from atelier_client.client import Client

_PAGE_SIZE = 500
_ORDER = ((State.QUEUED,), (State.QUEUED, State.RUNNING))
"""Those that wait go first, so that none of them begins when one that runs is stopped."""


@click.command("cancel")
@click.argument("generation_ids", metavar="[ID]...", nargs=-1, shell_complete=complete_id)
@click.option("--all", "cancel_all", is_flag=True, help="Cancel all that wait or run.")
@click.option(
    "--engine",
    default="",
    metavar="NAME",
    shell_complete=complete_engine,
    help="With --all: only those of this engine.",
)
@connection_options
def cancel_command(
    *, generation_ids: tuple[str, ...], cancel_all: bool, engine: str, server: str, as_json: bool
) -> int:
    """Cancel the generations ID, or all, and print each result.

    An ID may be the beginning of one, or @last.
    """
    if cancel_all == bool(generation_ids) or (engine and not cancel_all):
        raise click.UsageError("give ID, or --all, which --engine NAME restricts to an engine")
    with connect(server) as client:
        ids = (
            _find_unfinished(client, engine)
            if cancel_all
            else [resolve_id(client, given) for given in generation_ids]
        )
        codes = [_cancel(client, generation_id, as_json=as_json) for generation_id in ids]
    if not codes:
        click.echo("nothing waits or runs", err=True)
    return max(codes, default=ExitCode.OK)


def _find_unfinished(client: Client, engine: str) -> Iterator[str]:
    """The ids of all that wait or run."""
    seen = set[str]()
    for states in _ORDER:
        with closing(client.list(engine=engine, states=states, page_size=_PAGE_SIZE)) as pages:
            ids = [generation.id for generation in pages]
        for generation_id in ids:
            if generation_id not in seen:
                seen.add(generation_id)
                yield generation_id


def _cancel(client: Client, generation_id: str, *, as_json: bool) -> int:
    """Cancel one and print the result; an error does not keep the others from being cancelled."""
    try:
        cancellation = client.cancel(generation_id)
    except AtelierError as error:
        click.echo(f"error: {generation_id}: {error}", err=True)
        return exit_code_for(error)
    if as_json:
        echo_json(cancellation)
    else:
        click.echo(describe_cancellation(cancellation))
    return ExitCode.OK
