"""`atelier watch`: follows a generation."""

from __future__ import annotations

import click

from atelier_client.cli.completion_values import complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.follow import follow_to_end
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.interruption import handle_interruptions
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.cli.output_names import output_options, parse_target
from atelier_client.cli.progress import choose_display
from atelier_client.cli.saving import save_and_print


@click.command("watch")
@click.argument("generation_id", metavar="ID", shell_complete=complete_id)
@click.option("--after", default=0, metavar="SEQUENCE", help="Show only events after this one.")
@output_options
@connection_options
def watch_command(
    *, generation_id: str, after: int, output: str | None, force: bool, server: str, as_json: bool
) -> int:
    """Follow the generation ID to its end; --output saves its outputs.

    ID may be the beginning of one, or @last.
    Ctrl-C leaves the generation running.
    """
    target = parse_target(output, force=force)
    handle_interruptions()
    with connect(server) as client:
        generation_id = resolve_id(client, generation_id)
        shown = choose_display(as_json=as_json, quiet=False)
        finished = follow_to_end(
            client, generation_id, shown, fetch=output is not None, after_sequence=after
        )
        if output is not None:
            save_and_print(finished, target, as_json=as_json)
        elif as_json:
            echo_json({"generation": finished})
        else:
            click.echo(f"{generation_id}: {finished.state}")
    return ExitCode.OK
