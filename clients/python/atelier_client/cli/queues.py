"""`atelier pause`, `atelier resume` and `atelier clear`: what people who run the server do with an engine's queue."""

from __future__ import annotations

import click

from atelier_client.cli.completion_values import complete_engine
from atelier_client.cli.connection import connect
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options

_engine_argument = click.argument("engine", shell_complete=complete_engine)


@click.command("pause")
@_engine_argument
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who ask for its state.")
@connection_options
def pause_command(*, engine: str, reason: str, server: str, as_json: bool) -> None:
    """Let ENGINE begin nothing more until it is resumed.

    What runs goes on, and what comes waits in the queue. A pause outlasts restarts of the server.
    """
    with connect(server) as client:
        pause = client.pause(engine, reason)
    if as_json:
        echo_json(pause)
    else:
        click.echo(f"{engine}: paused; `atelier resume {engine}` lets it go on")


@click.command("resume")
@_engine_argument
@connection_options
def resume_command(*, engine: str, server: str, as_json: bool) -> None:
    """Let the paused ENGINE begin what waits for it."""
    with connect(server) as client:
        was_paused = client.resume(engine)
    if as_json:
        echo_json({"was_paused": was_paused})
    else:
        click.echo(f"{engine}: resumed" if was_paused else f"{engine}: was not paused")


@click.command("clear")
@_engine_argument
@click.option(
    "--reason", default="", metavar="TEXT", help="Why, for the callers of what is cancelled."
)
@connection_options
def clear_command(*, engine: str, reason: str, server: str, as_json: bool) -> None:
    """Cancel everything that waits for ENGINE, of all callers; what runs goes on."""
    with connect(server) as client:
        cancelled = client.clear_queue(engine, reason)
    if as_json:
        echo_json({"cancelled": cancelled})
    else:
        click.echo(f"{engine}: {cancelled} cancelled")
