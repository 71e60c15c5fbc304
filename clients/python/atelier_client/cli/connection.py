"""How a command reaches its server: by its options, the environment, and the servers that were saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import click

from atelier_client import environment
from atelier_client.cli.profiles import Profile, Profiles, read_profiles
from atelier_client.cli.reachability import check_reachable

if TYPE_CHECKING:
    from atelier_client.client import Client

F = TypeVar("F", bound=Callable[..., object])
_META = "atelier_client.cli.connection"


@dataclass(frozen=True, slots=True)
class _Option:
    """An option that fills a field of the profile; commands do not see it."""

    field: str
    flag: str
    metavar: str
    text: str


_OPTIONS = (
    _Option(
        "ca", "--tls-ca", "FILE", "Trust servers of this authority (PEM); with it, TLS is used."
    ),
    _Option(
        "certificate", "--cert", "FILE", "Certificate of yours, where the server wants one (PEM)."
    ),
    _Option("key", "--key", "FILE", "Private key of --cert (PEM)."),
    _Option(
        "token",
        "--token",
        "TOKEN",
        "API key or token. Others see it in the list of processes: better $ATELIER_TOKEN or `atelier login`.",
    ),
)


def access_options(command: F) -> F:
    """`--tls-ca`, `--cert`, `--key` and `--token`, which `connect` reads."""
    for option in reversed(_OPTIONS):
        command = click.option(
            option.flag,
            option.field,
            metavar=option.metavar,
            default="",
            expose_value=False,
            is_eager=True,
            callback=_remember,
            help=option.text,
        )(command)
    return command


def _remember(context: click.Context, parameter: click.Parameter, value: str) -> None:
    context.meta.setdefault(_META, {})[str(parameter.name)] = value


def find_profile(server: str, profiles: Profiles) -> Profile:
    """How to reach the server: what an option says, else the environment, else what was saved for it."""
    server = server or environment.read_named_server()
    saved = profiles.find(server)
    profile = saved or Profile(server=server)
    token = environment.read_token()
    if token:
        profile = replace(profile, token=token)
    context = click.get_current_context(silent=True)
    given: dict[str, str] = {} if context is None else context.meta.get(_META, {})
    return replace(profile, **{name: value for name, value in given.items() if value})


def connect(server: str) -> Client:
    """A client to use under `with`.

    Raises:
        AtelierError: no server answers, or its address is invalid.
    """
    return open_client(find_profile(server, read_profiles()))


def open_client(profile: Profile) -> Client:
    """A client of the server of the profile.

    Raises:
        AtelierError: no server answers, its address is invalid, or a file cannot be read.
    """
    check_reachable(profile.server)
    environment.silence_grpc()
    from atelier_client.client import Client  # noqa: PLC0415 - gRPC is imported only by commands that call a server
    from atelier_client.tls import Tls  # noqa: PLC0415 - as above

    files = (profile.ca, profile.certificate, profile.key)
    tls = Tls(
        ca=profile.ca or None, certificate=profile.certificate or None, key=profile.key or None
    )
    return Client(profile.server, tls=tls if any(files) else None, token=profile.token)
