"""The command `atelier doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from atelier_server.doctor.findings import Finding, Level, failure, warning

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}
_WIDTH = 16


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="Configuration file (YAML)."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each finding.")
def doctor(path: Path | None, *, as_json: bool) -> int:
    """Check this machine and a configuration, and print the command that mends what is missing.

    Services of engines are asked whether they answer; nothing is loaded, and nothing costs money. Exits with 1
    if anything would keep the server or an engine from working.
    """
    worst = 0
    for finding in _examine(path):
        _print(finding, as_json=as_json)
        worst |= finding.level is Level.FAILURE
    return int(worst)


def _examine(path: Path | None) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    import asyncio  # noqa: PLC0415 - other commands need not wait for these

    from atelier_server.config.configuration_files import ConfigurationError  # noqa: PLC0415 - as above
    from atelier_server.config.load import load  # noqa: PLC0415 - as above
    from atelier_server.config.profiles import keep_downloads  # noqa: PLC0415 - as above
    from atelier_server.config.warnings import find_warnings  # noqa: PLC0415 - as above
    from atelier_server.doctor.devices import check_devices  # noqa: PLC0415 - as above
    from atelier_server.doctor.engine_checks import check_engines, has_local_engines  # noqa: PLC0415 - as above
    from atelier_server.doctor.installation import check_installation  # noqa: PLC0415 - as above
    from atelier_server.doctor.places import check_places  # noqa: PLC0415 - as above

    yield from check_installation()
    try:
        settings = load(path)
        keep_downloads(settings)
    except ConfigurationError as error:
        yield from check_devices(needs_local=False)
        for line in str(error).splitlines():
            yield failure(
                "configuration", line, "change it there, or set the variable that it names"
            )
        return
    yield from check_devices(needs_local=has_local_engines(settings.engines.values()))
    yield from check_places(settings)
    for questionable in find_warnings(settings):
        yield warning(questionable.key, questionable.text, questionable.remedy)
    config = f"--config {path}" if path else ""
    yield from asyncio.run(check_engines(settings.engines, config))


def _print(finding: Finding, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(finding), ensure_ascii=False))
        return
    level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
    click.echo(f"{level} {finding.subject:<{_WIDTH}} {finding.text}")
    if finding.remedy:
        click.echo(f"{'':<8} {'':<{_WIDTH}} → {finding.remedy}")
