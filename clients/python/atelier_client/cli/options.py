"""Options that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from atelier_client.cli.connection import access_options
from atelier_client.environment import DEFAULT_SERVER

F = TypeVar("F", bound=Callable[..., object])


def connection_options(command: F) -> F:
    """`--server` and what belongs to it, and `--json`, as the parameters `server` and `as_json`."""
    return server_option(json_option(command))


def json_option(command: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")(
        command
    )


def server_option(command: F) -> F:
    """`--server`, as the parameter `server`, and what `connect` reads by itself."""
    option = click.option(
        "--server",
        default="",
        metavar="HOST:PORT",
        help=f"Address of the server.  [default: $ATELIER_SERVER, that of `atelier login`, or {DEFAULT_SERVER}]",
    )
    return option(access_options(command))
