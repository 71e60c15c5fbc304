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
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory of the database and the artifacts.",
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
    data_dir: Path | None,
    *,
    allow_insecure: bool | None,
) -> None:
    """Serve generations over gRPC until told to stop (SIGTERM, Ctrl-C)."""
    from atelier_server import app, logs  # noqa: PLC0415 (the other commands need not wait for it)
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415

    try:
        settings = load(
            path, listen=listen, metrics=metrics, data_dir=data_dir, allow_insecure=allow_insecure
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


_config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file (YAML)."
)
_engines_argument = click.argument("engines", nargs=-1)


@click.group()
def models() -> None:
    """Look after the weights that a configuration names."""


@models.command()
@_config_option
@_engines_argument
def pull(path: Path | None, engines: tuple[str, ...]) -> None:
    """Download what ENGINES (all, if none is named) need, so that serving needs no network."""
    _for_each(path, engines, download=True, verify=False)


@models.command()
@_config_option
@_engines_argument
def verify(path: Path | None, engines: tuple[str, ...]) -> None:
    """Read all weights of ENGINES (all, if none is named); end with 1 if any are not as they should be."""
    _for_each(path, engines, download=False, verify=True)


@models.command("list")
@_config_option
@click.option("--no-digest", is_flag=True, help="Do not read all bytes for their digests.")
@_engines_argument
def list_models(path: Path | None, engines: tuple[str, ...], *, no_digest: bool) -> None:
    """Show the weights of ENGINES (all, if none is named): what, how large, whether they are here."""
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (see serve)

    for name, entry in _entries(path, engines):
        line = f"{name} {entry.key}: {entry.source}"
        try:
            found = entry.find(False)  # noqa: FBT003 (no download)
            about = [found.family, _size(found.size_bytes)]
            if not no_digest:
                about.append(found.digest())
        except EngineError as error:
            about = [f"missing: {error}"]
        click.echo("  ".join([line, *filter(None, about)]))


@click.command()
@_config_option
@_engines_argument
def tune(path: Path | None, engines: tuple[str, ...]) -> None:
    """Measure what is fastest for ENGINES (all, if none is named) on this machine, and keep it for them.

    Stop the server first: whatever else is at work is measured too.
    """
    from atelier_engines import registry  # noqa: PLC0415 (see serve)
    from atelier_engines.errors import EngineError  # noqa: PLC0415

    for name, engine in _engines(path, engines):
        measure = registry.load(engine.type).tune
        if measure is None:
            continue
        try:
            for line in measure(engine.config):
                click.echo(f"{name}: {line}")
        except (EngineError, OSError) as error:
            raise click.ClickException(f"{name}: {error}") from error


def _for_each(path: Path | None, engines: Sequence[str], *, download: bool, verify: bool) -> None:
    """Find, or download, all weights, and read them if asked to; a line each.

    Raises:
        click.ClickException: some are not as they should be.
    """
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (see serve)

    troubles = 0
    for name, entry in _entries(path, engines):
        try:
            found = entry.find(download)
            if verify:
                found.verify()
        except EngineError as error:
            troubles += 1
            click.echo(f"{name} {entry.key}: {entry.source}: {error}", err=True)
        else:
            click.echo(f"{name} {entry.key}: {entry.source}  {_size(found.size_bytes)}  fine")
    if troubles:
        raise click.ClickException(f"{troubles} of the weights are not as they should be")


def _entries(path: Path | None, wanted: Sequence[str]) -> Iterator[tuple[str, WeightsEntry]]:
    """The weights that the configuration names, with the names of their engines.

    Raises:
        click.ClickException: the configuration cannot be used, or has no engine of a wanted name.
    """
    from atelier_engines import registry  # noqa: PLC0415 (see serve)

    for name, engine in _engines(path, wanted):
        weights = registry.load(engine.type).weights
        for entry in weights(engine.config) if weights is not None else ():
            yield name, entry


def _engines(path: Path | None, wanted: Sequence[str]) -> Iterator[tuple[str, EngineSettings]]:
    """The wanted engines of the configuration, all if none is wanted, with their names.

    Raises:
        click.ClickException: the configuration cannot be used, or has no engine of a wanted name.
    """
    from atelier_engines.local.cpu import configure_threads  # noqa: PLC0415 (see serve)
    from atelier_server.config.load import ConfigurationError, load  # noqa: PLC0415

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise _UnusableError(str(error)) from error
    if settings.threads is not None:
        configure_threads(settings.threads)
    unknown = [name for name in wanted if name not in settings.engines]
    if unknown:
        known = ", ".join(settings.engines)
        raise _UnusableError(f"no engine {unknown[0]!r}; there are {known}")
    for name in wanted or settings.engines:
        yield name, settings.engines[name]


def _size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
