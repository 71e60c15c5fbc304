"""The group of commands: our own, loaded when used, and those that other packages add.

A package adds a command by an entry point in the group `atelier.commands`. One that cannot be
loaded says so when it is called, and takes nothing else down.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

import click

_OWN = {
    "cancel": "generations",
    "engines": "engines",
    "generate": "generate",
    "health": "health",
    "list": "generations",
    "plan": "plan",
    "show": "generations",
    "watch": "watch",
}
"""Command to the module of this package that defines it."""


class CommandGroup(click.Group):
    """Our own commands and those of the entry-point group `atelier.commands`.

    Its methods override click's; `typing.override` needs Python 3.12.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """Every name, without loading anything."""
        return sorted({*_OWN, *_plugins()})

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click calls it so
        cmd_name: str,
    ) -> click.Command | None:
        """The command, loaded now."""
        if cmd_name in _OWN:
            module = importlib.import_module(f"atelier_client.cli.{_OWN[cmd_name]}")
            return _command(module, f"{cmd_name}_command")
        plugin = _plugins().get(cmd_name)
        return None if plugin is None else _loaded(plugin)


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="atelier.commands")}


def _command(module: object, name: str) -> click.Command:
    command = getattr(module, name)
    if not isinstance(command, click.Command):
        raise TypeError(f"{name} is no click command")
    return command


def _loaded(plugin: EntryPoint) -> click.Command:
    try:
        command = plugin.load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign package does while it is imported
        return _broken(plugin, f"{type(error).__name__}: {error}")
    if not isinstance(command, click.Command):
        return _broken(plugin, f"{plugin.value} is no click command")
    return command


def _broken(plugin: EntryPoint, why: str) -> click.Command:
    """A command in the place of one that cannot be loaded."""

    def tell() -> None:
        raise click.ClickException(f"{plugin.name} cannot be loaded from {plugin.value}: {why}")

    return click.Command(
        plugin.name,
        callback=tell,
        short_help="(cannot be loaded)",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
