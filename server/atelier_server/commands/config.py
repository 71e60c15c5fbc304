"""`atelier config`: checks and documents configuration files."""

from __future__ import annotations

from pathlib import Path

import click

from atelier_server.commands.configuration_options import UnusableError


@click.group()
def config() -> None:
    """Check and document configuration files."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Check a configuration file, and list every error in it, or what in it will surprise callers."""
    from atelier_server.config.configuration_files import ConfigurationError  # noqa: PLC0415 (see serve)
    from atelier_server.config.load import load  # noqa: PLC0415 (see serve)
    from atelier_server.config.warnings import find_warnings  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise UnusableError(str(error)) from error
    for warning in find_warnings(settings):
        click.echo(f"{path}: warning: {warning}", err=True)
    engines = ", ".join(f"{name} ({engine.type})" for name, engine in settings.engines.items())
    click.echo(f"{path}: valid; engines: {engines}")


@config.command()
def reference() -> None:
    """Print the reference of all settings."""
    from atelier_server.config.reference import write_reference as text  # noqa: PLC0415 (see serve)

    click.echo(text(), nl=False)
