"""What commands share that read a configuration: their options, and the engines that are selected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from atelier_server.config.engine_settings import EngineSettings

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="Configuration file, YAML or TOML; `.env` beside it is read.",
)
engines_argument = click.argument("engines", nargs=-1)


class UnusableError(click.ClickException):
    """The configuration is invalid."""

    exit_code = 2


def select_engines(
    path: Path | None, wanted: Sequence[str]
) -> Iterator[tuple[str, EngineSettings]]:
    """The named engines of the configuration, or all of them, with their names.

    Raises:
        click.ClickException: the configuration is invalid, or has no engine of that name.
    """
    from atelier_engines.local.cpu import configure_threads  # noqa: PLC0415 (see serve)
    from atelier_engines.suggestions import suggest  # noqa: PLC0415 (see serve)
    from atelier_server.config.configuration_files import ConfigurationError  # noqa: PLC0415 (see serve)
    from atelier_server.config.load import load  # noqa: PLC0415 (only this command needs it, and it takes long to import)
    from atelier_server.config.profiles import keep_downloads  # noqa: PLC0415 (see serve)

    try:
        settings = load(path)
    except ConfigurationError as error:
        raise UnusableError(str(error)) from error
    keep_downloads(settings)
    if settings.threads is not None:
        configure_threads(settings.threads)
    unknown = [name for name in wanted if name not in settings.engines]
    if unknown:
        known = ", ".join(settings.engines)
        raise UnusableError(
            f"no engine {unknown[0]!r}; there are {known}{suggest(unknown[0], settings.engines)}"
        )
    for name in wanted or settings.engines:
        yield name, settings.engines[name]
