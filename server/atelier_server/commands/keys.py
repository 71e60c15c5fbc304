"""`atelier keys`: makes, lists and revokes the API keys of a server."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from atelier_server.config.security_settings import Scope

_file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File of the keys: auth.keys.file of the server.",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the API keys of a server.

    A server uses a change of the file within two seconds.
    """


@keys.command()
@_file_option
@click.option("--tenant", required=True, help="Whom the key belongs to.")
@click.option(
    "--scope",
    "scopes",
    required=True,
    metavar="SCOPE[,SCOPE…]",
    help="What it may do: generate, read, cancel, admin.",
)
@click.option("--subject", default="", help="User or service that has it.  [default: its id]")
def create(path: Path, tenant: str, scopes: str, subject: str) -> None:
    """Make a key, and print it alone on stdout: it is shown this once, the file has a hash of it."""
    from atelier_server.auth.key_file import add_key  # noqa: PLC0415 (see serve)
    from atelier_server.auth.keys import make_key  # noqa: PLC0415 (see serve)

    with _explain_faults(path):
        record, key = make_key(
            tenant=tenant, subject=subject, scopes=_parse_scopes(scopes), created=datetime.now(UTC)
        )
        add_key(path, record)
    click.echo(
        f"{record.id} of tenant {tenant} is in {path}; the key is not shown again:", err=True
    )
    click.echo(key)


@keys.command("list")
@_file_option
def list_command(path: Path) -> None:
    """List the keys, one a line, without their secrets."""
    from atelier_server.auth.key_file import list_keys  # noqa: PLC0415 (see serve)

    with _explain_faults(path):
        found = list_keys(path)
    for record in found:
        scopes = ",".join(record.scopes)
        created = f"{record.created:%Y-%m-%d}"
        click.echo(f"{record.id}  {created}  {record.tenant:<16} {scopes:<28} {record.subject}")


@keys.command()
@_file_option
@click.argument("key_id", metavar="ID")
def revoke(path: Path, key_id: str) -> None:
    """Revoke the key of this id, what stands before its dot."""
    from atelier_server.auth.key_file import revoke_key  # noqa: PLC0415 (see serve)

    with _explain_faults(path):
        was_there = revoke_key(path, key_id.partition(".")[0])
    if not was_there:
        raise click.UsageError(f"there is no key {key_id.partition('.')[0]!r} in {path}")


def _parse_scopes(text: str) -> list[Scope]:
    """The scopes of a comma-separated text."""
    from atelier_server.config.security_settings import as_scope  # noqa: PLC0415 (see serve)

    return [as_scope(name.strip()) for name in text.split(",") if name.strip()]


@contextmanager
def _explain_faults(path: Path) -> Generator[None]:
    """One line for what is wrong with the file or the options."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"cannot use {path}: {error.strerror}") from error
