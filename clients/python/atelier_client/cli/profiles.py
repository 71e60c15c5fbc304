"""Servers that `atelier login` has saved: how to reach each, and the key for it, in a file for its owner alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click

from atelier_client.addresses import parse_address
from atelier_client.environment import find_profiles

_MODE = 0o600
_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How to reach one server."""

    server: str
    """Its address, as it was given."""
    ca: str = ""
    """PEM file of the authority to trust; empty for those of the system."""
    certificate: str = ""
    """PEM file of this client's certificate; empty for none."""
    key: str = ""
    """PEM file of its private key; empty for none."""
    token: str = field(default="", repr=False)
    """API key or token; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """All saved servers."""

    default: str = ""
    """Address of the server that was saved last; empty for none."""
    servers: Mapping[str, Profile] = field(default_factory=dict)
    """By host and port, as gRPC takes them."""

    def find(self, server: str) -> Profile | None:
        """The profile of the server at this address; without one, of the default."""
        address = server or self.default
        return self.servers.get(parse_address(address).target) if address else None

    def add(self, profile: Profile) -> Profiles:
        """With this profile, which is the default from now on."""
        target = parse_address(profile.server).target
        return Profiles(default=profile.server, servers={**self.servers, target: profile})

    def remove(self, server: str) -> Profiles:
        """Without the profile of this server."""
        target = parse_address(server).target
        kept = {name: profile for name, profile in self.servers.items() if name != target}
        is_default = self.default and parse_address(self.default).target == target
        return replace(self, servers=kept, default="" if is_default else self.default)


def read_profiles() -> Profiles:
    """The saved servers; none if there is no file.

    Raises:
        click.ClickException: the file cannot be read, or is no such file.
    """
    path = find_profiles()
    try:
        found = json.loads(path.read_bytes())
        servers = {name: Profile(**given) for name, given in found["servers"].items()}
        return Profiles(default=str(found["default"]), servers=servers)
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException(
            f"{path} is no file of `atelier login`: delete it, and log in again"
        ) from None


def write_profiles(profiles: Profiles) -> Path:
    """Save them; returns the file, which nobody else can read.

    Raises:
        click.ClickException: it cannot be written.
    """
    path = find_profiles()
    servers = {name: asdict(profile) for name, profile in profiles.servers.items()}
    text = json.dumps({"default": profiles.default, "servers": servers}, indent=2) + "\n"
    draft = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    return path
