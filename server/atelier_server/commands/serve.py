"""`atelier serve`: serves generations until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atelier_server.commands.configuration_options import UnusableError, config_option

if TYPE_CHECKING:
    from atelier_server import app
    from atelier_server.config.settings import Settings


@click.command()
@config_option
@click.option(
    "--role",
    type=click.Choice(["all", "gateway", "worker"]),
    help="What this server does; gateways answer calls, workers run engines.",
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Address of the gRPC server: HOST:PORT, [IPV6]:PORT or unix:PATH.",
)
@click.option(
    "--http",
    metavar="ADDRESS",
    help="HTTP address (as above) of the same calls, for browsers and curl.",
)
@click.option(
    "--metrics",
    metavar="ADDRESS",
    help="HTTP address (as above) of /metrics, /healthz and /readyz.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the database and the artifacts.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Only this engine of the configuration; may be repeated.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Minimum level that is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    help="auto is console on a terminal, json elsewhere.",
)
@click.option(
    "--testing",
    is_flag=True,
    default=None,
    help="Replace every engine by a placeholder of its name, which needs no model and no key.",
)
@click.option(
    "--allow-insecure",
    is_flag=True,
    default=None,
    help="Allow an address that other machines can reach, without TLS.",
)
def serve(  # noqa: PLR0917 (named by click)
    path: Path | None,
    role: str | None,
    listen: str | None,
    http: str | None,
    metrics: str | None,
    data_dir: Path | None,
    engines: tuple[str, ...],
    log_level: str | None,
    log_format: str | None,
    *,
    testing: bool | None,
    allow_insecure: bool | None,
) -> None:
    """Serve generations over gRPC until SIGTERM, SIGHUP or Ctrl-C."""
    from atelier_server.config.grpc_environment import quieten_grpc  # noqa: PLC0415 (see serve)

    quieten_grpc()
    from atelier_server import app  # noqa: PLC0415 (only this command needs it, and it takes long to import)
    from atelier_server.config.configuration_files import ConfigurationError  # noqa: PLC0415 (see serve)
    from atelier_server.config.load import load  # noqa: PLC0415 (only this command needs it, and it takes long to import)
    from atelier_server.config.profiles import keep_downloads  # noqa: PLC0415 (see serve)

    try:
        settings = load(
            path,
            only_engines=engines,
            log={"level": log_level, "format": log_format},
            role=role,
            listen=listen,
            http=http,
            metrics=metrics,
            data_dir=data_dir,
            testing=testing,
            allow_insecure=allow_insecure,
        )
        keep_downloads(settings)
        is_console = _configure_log(settings)
        asyncio.run(app.serve(settings, on_start=_greet if is_console else None))
    except ConfigurationError as error:
        raise UnusableError(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error


def _configure_log(settings: Settings) -> bool:
    """Start logging; whether people read the log."""
    from atelier_engines import registry  # noqa: PLC0415 (see serve)
    from atelier_server import logs  # noqa: PLC0415 (see serve)

    form = settings.log.format
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    packages = ("atelier_server", "atelier_client", *registry.packages())
    logs.configure(level=settings.log.level, form=form, packages=packages)
    return form == "console"


def _greet(settings: Settings, addresses: app.Addresses) -> None:
    """Say to people what is loading, and what to do next."""
    from atelier_server.version import VERSION  # noqa: PLC0415 (see serve)

    address, metrics = addresses.grpc, addresses.metrics
    engines = ", ".join(f"{name} ({engine.type})" for name, engine in settings.engines.items())
    what = "works for gateways" if not address else f"serves on {address}"
    at = "" if address.endswith(":50051") else f" --server {address}"
    lines = [
        f"atelier {VERSION} {what}; the data is in {settings.data_dir.expanduser()}",
        f"loading: {engines}" if engines else "",
        f"HTTP: {addresses.http}" if addresses.http else "",
        f"metrics: http://{metrics}/metrics, health: http://{metrics}/readyz" if metrics else "",
        f'next, in another terminal: atelier generate "a red apple"{at}; atelier engines{at}'
        if address
        else "",
    ]
    click.echo("\n".join(filter(None, lines)), err=True)
