"""Options that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from atelier_client import environment
from atelier_client.cli.reachability import check_reachable
from atelier_client.environment import DEFAULT_SERVER

if TYPE_CHECKING:
    from atelier_client.client import Client

F = TypeVar("F", bound=Callable[..., object])


def connection_options(command: F) -> F:
    """`--server` and `--json`, as the parameters `server` and `as_json`."""
    return server_option(json_option(command))


def json_option(command: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")(
        command
    )


def server_option(command: F) -> F:
    """`--server`, as the parameter `server`."""
    return click.option(
        "--server",
        default="",
        metavar="HOST:PORT",
        help=f"Address of the server.  [default: $ATELIER_SERVER or {DEFAULT_SERVER}]",
    )(command)


def connect(server: str) -> Client:
    """A client to use under `with`.

    Raises:
        AtelierError: no server answers, or its address is invalid.
    """
    check_reachable(server)
    environment.silence_grpc()
    from atelier_client.client import Client  # noqa: PLC0415 - gRPC is imported only by commands that call a server

    return Client(server)
