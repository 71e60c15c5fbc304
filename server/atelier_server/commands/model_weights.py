"""`atelier models`: downloads, verifies and lists weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atelier_server.commands.configuration_options import (
    config_option,
    engines_argument,
    select_engines,
)

if TYPE_CHECKING:
    from atelier_engines.weights import WeightsEntry


@click.group()
def models() -> None:
    """Download, verify and list the weights that a configuration names."""


@models.command()
@config_option
@engines_argument
def pull(path: Path | None, engines: tuple[str, ...]) -> None:
    """Download the weights of ENGINES (default: all), so that serving needs no network."""
    _check_weights(path, engines, download=True, verify=False)


@models.command()
@config_option
@engines_argument
def verify(path: Path | None, engines: tuple[str, ...]) -> None:
    """Verify the weights of ENGINES (default: all); the exit status is 1 if any are invalid."""
    _check_weights(path, engines, download=False, verify=True)


@models.command("list")
@config_option
@click.option("--no-digest", is_flag=True, help="Do not compute digests, which reads every byte.")
@engines_argument
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

    for name, engine in select_engines(path, wanted):
        weights = registry.load(engine.type).weights
        for entry in weights(engine.config) if weights is not None else ():
            yield name, entry


def _format_size(count: int) -> str:
    """The number of bytes in MB or GB."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
