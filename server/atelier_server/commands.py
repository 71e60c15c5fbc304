"""What the server adds to the `atelier` command: `serve` and `config`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click


class _UnusableError(click.ClickException):
    """The configuration can't be used."""

    exit_code = 2


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file (YAML)."
)
@click.option("--listen", metavar="HOST:PORT", help="Where to serve gRPC.")
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Where to serve /metrics, /healthz and /readyz over HTTP.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="Directory of generations and artifacts."
)
@click.option(
    "--allow-insecure",
    is_flag=True,
    default=None,
    help="Serve other machines without TLS and keys.",
)
def serve(
    path: Path | None,
    listen: str | None,
    metrics: str | None,
    data: Path | None,
    *,
    allow_insecure: bool | None,
) -> None:
    """Serve generations over gRPC until told to stop (SIGTERM, Ctrl-C)."""
    from atelier_server import app, logs  # noqa: PLC0415 (the other commands need not wait for it)
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415

    try:
        settings = load(
            path, listen=listen, metrics=metrics, data=data, allow_insecure=allow_insecure
        )
        logs.configure(level=settings.log.level, form=settings.log.format)
        asyncio.run(app.serve(settings))
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error


@click.group()
def config() -> None:
    """Work with configuration files."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Say whether a configuration file can be used, and if not, every reason why."""
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415 (see serve)

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    engines = ", ".join(f"{name} ({engine.type})" for name, engine in settings.engines.items())
    click.echo(f"{path}: fine; engines: {engines}")


@config.command()
def reference() -> None:
    """Print the reference of everything that can be configured."""
    from atelier_server.config.reference import reference as text  # noqa: PLC0415 (see serve)

    click.echo(text(), nl=False)
