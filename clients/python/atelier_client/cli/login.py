"""`atelier login` and `atelier logout`: save how to reach a server, and forget it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from atelier_client.cli.connection import access_options, find_profile, open_client
from atelier_client.cli.profiles import Profiles, read_profiles, write_profiles


@click.command("login")
@click.argument("server")
@access_options
def login_command(*, server: str) -> None:
    """Save how to reach SERVER, and the key for it; all commands use it from then on.

    The key is asked for, or read from standard input. It is tried before it is saved, in a file that nobody else
    can read; it is sent to this server alone.
    """
    profile = find_profile(server, Profiles())
    token = profile.token or _ask_token()
    profile = replace(
        profile,
        ca=_make_absolute(profile.ca),
        certificate=_make_absolute(profile.certificate),
        key=_make_absolute(profile.key),
        token=token,
    )
    with open_client(profile) as client:
        health = client.health()
    path = write_profiles(read_profiles().add(profile))
    click.echo(f"{server} answers (version {health.version}); saved in {path}", err=True)


@click.command("logout")
@click.argument("server")
def logout_command(*, server: str) -> None:
    """Forget how to reach SERVER, and the key for it."""
    profiles = read_profiles()
    if profiles.find(server) is None:
        raise click.UsageError(f"{server} is not saved")
    write_profiles(profiles.remove(server))
    click.echo(f"forgot {server}", err=True)


def _ask_token() -> str:
    """The key that is typed, or piped; empty for none."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    prompt = "Key (empty for none)"
    return str(
        click.prompt(prompt, default="", hide_input=True, show_default=False, err=True)
    ).strip()


def _make_absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
