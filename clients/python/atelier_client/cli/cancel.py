"""`atelier cancel`: cancels a generation."""

from __future__ import annotations

import click

from atelier_client.cli.follow import describe_cancellation
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options


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
