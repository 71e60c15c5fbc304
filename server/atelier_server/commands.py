"""What the server adds to the `atelier` command: `serve`, `config`, `models` and `tune`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from atelier_engines.weights import WeightsEntry
    from atelier_server.config.settings import EngineSettings


class _UnusableError(click.ClickException):
    """The configuration is invalid."""

    exit_code = 2


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file (YAML)."
)
@click.option(
    "--listen",
    metavar="ADDRESS",
    help="Address of the gRPC server: HOST:PORT, [IPV6]:PORT or unix:PATH.",
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
    "--allow-insecure",
    is_flag=True,
    default=None,
    help="Allow an address that other machines can reach, without TLS.",
)
def serve(
    path: Path | None,
    listen: str | None,
    metrics: str | None,
    data_dir: Path | None,
    *,
    allow_insecure: bool | None,
) -> None:
    """Serve generations over gRPC until SIGTERM, SIGHUP or Ctrl-C."""
    from atelier_engines import registry  # noqa: PLC0415 (the other commands need not wait for it)
    from atelier_server import app, logs  # noqa: PLC0415 (only this command needs it, and it takes long to import)
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    try:
        settings = load(
            path, listen=listen, metrics=metrics, data_dir=data_dir, allow_insecure=allow_insecure
        )
        packages = ("atelier_server", "atelier_client", *registry.packages())
        logs.configure(level=settings.log.level, form=settings.log.format, packages=packages)
        asyncio.run(app.serve(settings))
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error


@click.group()
def config() -> None:
    """Check and document configuration files."""


@config.command()
@click.argument("path", type=click.Path(path_type=Path))
def check(path: Path) -> None:
    """Check a configuration file, and list every error in it, or what in it will surprise callers."""
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415 (see serve)
    from atelier_server.config.warnings import find_warnings  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    for warning in find_warnings(settings):
        click.echo(f"{path}: warning: {warning}", err=True)
    engines = ", ".join(f"{name} ({engine.type})" for name, engine in settings.engines.items())
    click.echo(f"{path}: valid; engines: {engines}")


@config.command()
def reference() -> None:
    """Print the reference of all settings."""
    from atelier_server.config.reference import write_reference as text  # noqa: PLC0415 (see serve)

    click.echo(text(), nl=False)


_config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file (YAML)."
)
_engines_argument = click.argument("engines", nargs=-1)


@click.group()
def models() -> None:
    """Download, verify and list the weights that a configuration names."""


@models.command()
@_config_option
@_engines_argument
def pull(path: Path | None, engines: tuple[str, ...]) -> None:
    """Download the weights of ENGINES (default: all), so that serving needs no network."""
    _check_weights(path, engines, download=True, verify=False)


@models.command()
@_config_option
@_engines_argument
def verify(path: Path | None, engines: tuple[str, ...]) -> None:
    """Verify the weights of ENGINES (default: all); the exit status is 1 if any are invalid."""
    _check_weights(path, engines, download=False, verify=True)


@models.command("list")
@_config_option
@click.option("--no-digest", is_flag=True, help="Do not compute digests, which reads every byte.")
@_engines_argument
def list_models(path: Path | None, engines: tuple[str, ...], *, no_digest: bool) -> None:
    """List the weights of ENGINES (default: all): source, size, and whether they are present."""
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (see serve)

    for name, entry in _list_weights(path, engines):
        line = f"{name} {entry.key}: {entry.source}"
        try:
            found = entry.find(False)  # noqa: FBT003 (no download)
            about = [found.family, found.notes, _format_size(found.size_bytes)]
            if not no_digest:
                about.append(found.digest())
        except EngineError as error:
            about = [f"missing: {error}"]
        click.echo("  ".join([line, *filter(None, about)]))


@click.command()
@_config_option
@_engines_argument
def tune(path: Path | None, engines: tuple[str, ...]) -> None:
    """Measure the fastest settings of ENGINES (default: all) on this machine, and store them for the server.

    Stop the server first: other work on the machine changes the measurements.
    """
    from atelier_engines import registry  # noqa: PLC0415 (see serve)
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    for name, engine in _select_engines(path, engines):
        measure = registry.load(engine.type).tune
        if measure is None:
            continue
        try:
            for line in measure(engine.config):
                click.echo(f"{name}: {line}")
        except (EngineError, OSError) as error:
            raise click.ClickException(f"{name}: {error}") from error


def _check_weights(
    path: Path | None, engines: Sequence[str], *, download: bool, verify: bool
) -> None:
    """Find or download all weights, and verify them if required; prints one line for each.

    Raises:
        click.ClickException: some are missing or invalid.
    """
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (see serve)

    failures = 0
    for name, entry in _list_weights(path, engines):
        try:
            found = entry.find(download)
            if verify:
                found.verify()
        except EngineError as error:
            failures += 1
            click.echo(f"{name} {entry.key}: {entry.source}: {error}", err=True)
        else:
            click.echo(f"{name} {entry.key}: {entry.source}  {_format_size(found.size_bytes)}  ok")
    if failures:
        raise click.ClickException(f"{failures} of the weights are missing or invalid")


def _list_weights(path: Path | None, wanted: Sequence[str]) -> Iterator[tuple[str, WeightsEntry]]:
    """The weights of the selected engines, each with the name of its engine.

    Raises:
        click.ClickException: the configuration is invalid, or has no engine of that name.
    """
    from atelier_engines import registry  # noqa: PLC0415 (see serve)

    for name, engine in _select_engines(path, wanted):
        weights = registry.load(engine.type).weights
        for entry in weights(engine.config) if weights is not None else ():
            yield name, entry


def _select_engines(
    path: Path | None, wanted: Sequence[str]
) -> Iterator[tuple[str, EngineSettings]]:
    """The named engines of the configuration, or all of them, with their names.

    Raises:
        click.ClickException: the configuration is invalid, or has no engine of that name.
    """
    from atelier_engines.local.cpu import configure_threads  # noqa: PLC0415 (see serve)
    from atelier_engines.suggestions import suggest  # noqa: PLC0415 (see serve)
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415 (only this command needs it, and it takes long to import)

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    if settings.threads is not None:
        configure_threads(settings.threads)
    unknown = [name for name in wanted if name not in settings.engines]
    if unknown:
        known = ", ".join(settings.engines)
        raise _UnusableError(
            f"no engine {unknown[0]!r}; there are {known}{suggest(unknown[0], settings.engines)}"
        )
    for name in wanted or settings.engines:
        yield name, settings.engines[name]


def _format_size(count: int) -> str:
    """The number of bytes in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
