"""`atelier build`: builds what engines run from their weights, ahead of the start of a server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from atelier_server.commands.configuration_options import (
    config_option,
    engines_argument,
    select_engines,
)

if TYPE_CHECKING:
    from atelier_engines.builds import BuildPlan

Mode = Literal["build", "list", "prune", "verify"]


@click.command()
@config_option
@click.option("--list", "mode", flag_value="list", help="List the builds that ENGINES need.")
@click.option(
    "--verify", "mode", flag_value="verify", help="Read every byte of them; 1 if any is refused."
)
@click.option(
    "--prune",
    "mode",
    flag_value="prune",
    help="Remove the builds that no engine of the configuration needs and no server uses.",
)
@click.option(
    "--fetch-tensorrt",
    "repository",
    metavar="REPOSITORY",
    help="Fetch the libraries that `runtime: tensorrt` needs, from a Maven repository: an https address, or a "
    "directory such as ~/.m2/repository.",
)
@engines_argument
def build(
    path: Path | None, mode: Mode | None, repository: str | None, engines: tuple[str, ...]
) -> None:
    """Build the networks of ENGINES (default: all) for the runtimes that run them, so that a start only opens files.

    Each is exported, compared with torch, and kept; what is there already is not built again. The command may be
    stopped and repeated, and run while others build or serve.
    """
    from atelier_engines.errors import EngineError  # noqa: PLC0415 (see serve)

    if repository is not None and mode is not None:
        raise click.UsageError(f"--fetch-tensorrt and --{mode} exclude each other")
    try:
        if repository is not None:
            _fetch(path, engines, repository)
            return
        match mode:
            case None | "build":
                _build(path, engines)
            case "list" | "verify":
                _check(path, engines, verify=mode == "verify")
            case "prune":
                _prune(path, engines)
    except (EngineError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _build(path: Path | None, wanted: tuple[str, ...]) -> None:
    for name, plan in _plan(path, wanted):
        if not plan.targets:
            click.echo(f"{name}: nothing to build")
        for number, target in enumerate(plan.targets, start=1):
            label = f"{name} {target.name} ({number} of {len(plan.targets)})"
            target.build(partial(_echo_step, label))


def _fetch(path: Path | None, wanted: tuple[str, ...], repository: str) -> None:
    """Fetch what the selected engines need of TensorRT."""
    from atelier_engines import registry  # noqa: PLC0415 (see serve)

    for name, engine in select_engines(path, wanted):
        fetch = registry.load(engine.type).fetch_tensorrt
        if fetch is not None:
            fetch(engine.config, repository, partial(_echo_step, f"{name} libraries of TensorRT"))


def _echo_step(label: str, step: str) -> None:
    click.echo(f"{label}: {step}")


def _check(path: Path | None, wanted: tuple[str, ...], *, verify: bool) -> None:
    """Print a line for each build that is needed.

    Raises:
        click.ClickException: it is to be verified, and one is refused or absent.
    """
    from atelier_engines.local.builds.manifest import BuildRefusedError  # noqa: PLC0415 (see serve)
    from atelier_engines.local.builds.store import BuildStore  # noqa: PLC0415 (see serve)

    failures = 0
    for name, plan in _plan(path, wanted):
        store = BuildStore(directory=plan.directory)
        there = store.digests()
        for target in plan.targets:
            line = f"{name} {target.name}: {target.digest[:12]}"
            if target.digest not in there:
                failures += 1
                click.echo(f"{line}  not built")
                continue
            try:
                found = store.verify(target.digest) if verify else store.describe(target.digest)
            except BuildRefusedError as error:
                failures += 1
                click.echo(f"{line}  refused: {error}")
            else:
                size = f"{found.size_bytes / 1e6:.1f} MB"
                click.echo(f"{line}  {size}  {found.manifest.built_at}  {found.folder}")
    if failures and verify:
        raise click.ClickException(f"{failures} of the builds are refused or not built")


def _prune(path: Path | None, wanted: tuple[str, ...]) -> None:
    """Remove what no engine of the whole configuration needs, from the directories of the selected ones."""
    from atelier_engines.local.builds.store import BuildStore  # noqa: PLC0415 (see serve)

    plans = dict(_plan(path, ()))
    keep = {target.digest for plan in plans.values() for target in plan.targets}
    for directory in sorted({plans[name].directory for name in wanted or plans if name in plans}):
        for digest in BuildStore(directory=directory).prune(keep):
            click.echo(f"removed {directory / digest}")


def _plan(path: Path | None, wanted: tuple[str, ...]) -> Iterator[tuple[str, BuildPlan]]:
    """The plans of the selected engines that can build something."""
    from atelier_engines import registry  # noqa: PLC0415 (see serve)

    for name, engine in select_engines(path, wanted):
        planner = registry.load(engine.type).builds
        if planner is not None:
            yield name, planner(engine.config)
