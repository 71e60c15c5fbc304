"""`atelier watch`: follows a generation."""

from __future__ import annotations

from pathlib import Path

import click

from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.follow import follow_to_end, handle_sigterm
from atelier_client.cli.generate import output_option, save_and_print
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.progress import choose_display


@click.command("watch")
@click.argument("generation_id", metavar="ID")
@click.option("--after", default=0, metavar="SEQUENCE", help="Show only events after this one.")
@output_option
@connection_options
def watch_command(
    *, generation_id: str, after: int, output: Path | None, server: str, as_json: bool
) -> int:
    """Follow the generation ID to its end; --output saves its outputs.

    Ctrl-C leaves the generation running.
    """
    handle_sigterm()
    with connect(server) as client:
        shown = choose_display(as_json=as_json, quiet=False)
        finished = follow_to_end(
            client, generation_id, shown, fetch=output is not None, after_sequence=after
        )
        if output is not None:
            save_and_print(finished, output, as_json=as_json)
        elif as_json:
            echo_json({"generation": finished})
        else:
            click.echo(f"{generation_id}: {finished.state}")
    return ExitCode.OK
