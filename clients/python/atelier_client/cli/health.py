"""`atelier health`: the health of the server and of its engines."""

from __future__ import annotations

import click

from atelier_client.cli.connection import connect
from atelier_client.cli.engine_page import format_pause
from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.enums import ServingStatus


@click.command("health")
@connection_options
def health_command(*, server: str, as_json: bool) -> int:
    """Show the health of the server and of each engine.

    Exits with 1 if the server does not accept generations.
    """
    with connect(server) as client:
        health = client.health()
    if as_json:
        echo_json(health)
    else:
        status = health.status.replace("_", " ")
        click.echo(f"{status}  (version {health.version}, up {health.uptime_seconds:.0f} s)")
        if health.message:
            click.echo(f"  {health.message}")
        for engine in health.engines:
            pause = "" if engine.pause is None else format_pause(engine.pause)
            notes = "; ".join(filter(None, (engine.message, pause)))
            click.echo(f"  {engine.engine:<16} {engine.state:<12} {notes}".rstrip())
    return ExitCode.OK if health.status is ServingStatus.SERVING else ExitCode.FAILED
