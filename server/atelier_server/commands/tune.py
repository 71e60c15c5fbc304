"""`atelier tune`: measures the fastest settings of engines on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from atelier_server.commands.configuration_options import (
    config_option,
    engines_argument,
    select_engines,
)


@click.command()
@config_option
@engines_argument
def tune(path: Path | None, engines: tuple[str, ...]) -> None:
    """Measure the fastest settings of ENGINES (default: all) on this machine, and store them for the server.

    Stop the server first: other work on the machine changes the measurements.
    """
    from atelier_engines import registry  # noqa: PLC0415 (see serve)
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    for name, engine in select_engines(path, engines):
        measure = registry.load(engine.type).tune
        if measure is None:
            continue
        try:
            for line in measure(engine.config):
                click.echo(f"{name}: {line}")
        except (EngineError, OSError) as error:
            raise click.ClickException(f"{name}: {error}") from error
