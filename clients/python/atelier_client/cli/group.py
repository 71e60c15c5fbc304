"""The group of commands: built-in ones, imported on use, and those of other packages.

A package adds a command by an entry point in the group `atelier.commands`. A command that cannot be
imported reports that when it is called; the others still work.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

import click

_OWN = {
    "batch": "batch",
    "cancel": "cancel",
    "clear": "queues",
    "completion": "completion",
    "engines": "engines",
    "generate": "generate",
    "health": "health",
    "list": "listing",
    "login": "login",
    "logout": "login",
    "pause": "queues",
    "plan": "plan",
    "rerun": "rerun",
    "resume": "queues",
    "show": "show",
    "top": "top",
    "trace": "trace",
    "vary": "vary",
    "watch": "watch",
}
"""Command to the module of this package that defines it."""


class CommandGroup(click.Group):
    """The built-in commands and those of the entry-point group `atelier.commands`.

    Its methods override click's; `typing.override` needs Python 3.12.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """The names of all commands, without importing them."""
        return sorted({*_OWN, *_find_plugins()})

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click calls it so
        cmd_name: str,
    ) -> click.Command | None:
        """Import the command."""
        if cmd_name in _OWN:
            module = importlib.import_module(f"atelier_client.cli.{_OWN[cmd_name]}")
            return _get_command(module, f"{cmd_name}_command")
        plugin = _find_plugins().get(cmd_name)
        return None if plugin is None else _load_plugin(plugin)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name.

        Raises:
            click.UsageError: there is none; the message names the most similar one.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            similar = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if similar:
                message = f"{error.message} Did you mean {similar[0]!r}?"
                raise click.UsageError(message, ctx) from error
            raise


def _find_plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="atelier.commands")}


def _get_command(module: object, name: str) -> click.Command:
    command = getattr(module, name)
    if not isinstance(command, click.Command):
        raise TypeError(f"{name} is not a click command")
    return command


def _load_plugin(plugin: EntryPoint) -> click.Command:
    try:
        command = plugin.load()
    except Exception as error:  # noqa: BLE001 - whatever a foreign package does while it is imported
        return _build_broken_command(plugin, f"{type(error).__name__}: {error}")
    if not isinstance(command, click.Command):
        return _build_broken_command(plugin, f"{plugin.value} is not a click command")
    return command


def _build_broken_command(plugin: EntryPoint, reason: str) -> click.Command:
    """A command that reports why the real one cannot be imported."""

    def fail() -> None:
        raise click.ClickException(f"{plugin.name} cannot be loaded from {plugin.value}: {reason}")

    return click.Command(
        plugin.name,
        callback=fail,
        short_help="(cannot be loaded)",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
