"""API keys: `ID.SECRET`, of which a file has a salted hash.

A secret has 256 random bits, which nobody guesses, however fast the hash is. A slow hash such as scrypt protects what
people choose; here it would only cost the server tens of milliseconds in every call.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier_server.auth.caller import Caller
from atelier_server.config.security_settings import Scope, Tenant

_SECRET_BYTES = 32
_SALT_BYTES = 16
_HEX_DIGEST = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_HEX_SALT = Annotated[str, Field(pattern="^[0-9a-f]{32,128}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyRecord(_Entry):
    """One key, without its secret."""

    id: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$")
    """What stands before the dot."""
    tenant: Tenant
    """Whom it belongs to."""
    subject: str = Field(min_length=1, max_length=256)
    """The user or service that has it."""
    scopes: tuple[Scope, ...] = Field(min_length=1)
    """What it may do."""
    created: datetime
    """When it was made."""
    salt: _HEX_SALT
    """Hashed before the secret."""
    sha256: _HEX_DIGEST
    """SHA-256 of salt and secret."""


class KeyFile(_Entry):
    """The content of a file of keys."""

    version: Literal[1] = 1
    """Of the form of the file."""
    keys: tuple[KeyRecord, ...] = ()
    """All keys that are not revoked."""


@dataclass(frozen=True, slots=True)
class _Key:
    salt: bytes
    digest: bytes
    caller: Caller | None


_NOBODY = _Key(secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(32), None)
"""In place of an unknown key, which takes as long as a wrong one."""


class Keyring:
    """The keys of a file, by their ids."""

    def __init__(self, records: Sequence[KeyRecord]) -> None:
        """Hold these keys."""
        self._keys: Mapping[str, _Key] = {
            record.id: _Key(
                bytes.fromhex(record.salt),
                bytes.fromhex(record.sha256),
                Caller(
                    tenant=record.tenant, subject=record.subject, scopes=frozenset(record.scopes)
                ),
            )
            for record in records
        }

    def find(self, token: str) -> Caller | None:
        """Who has the key; None if it is unknown or its secret is wrong. One look-up and one hash."""
        key_id, _, secret = token.partition(".")
        key = self._keys.get(key_id, _NOBODY)
        given = hashlib.sha256(key.salt + secret.encode(errors="replace")).digest()
        return key.caller if hmac.compare_digest(given, key.digest) else None


def make_key(
    *, tenant: str, subject: str, scopes: Sequence[Scope], created: datetime
) -> tuple[KeyRecord, str]:
    """A new key: its record, and the text that its owner sends, which is kept nowhere.

    Raises:
        ValueError: tenant, subject or a scope has another form.
    """
    key_id, secret = f"ak{secrets.token_hex(8)}", secrets.token_urlsafe(_SECRET_BYTES)
    salt = secrets.token_bytes(_SALT_BYTES)
    try:
        record = KeyRecord(
            id=key_id,
            tenant=tenant,
            subject=subject or key_id,
            scopes=tuple(dict.fromkeys(scopes)),
            created=created,
            salt=salt.hex(),
            sha256=hashlib.sha256(salt + secret.encode()).hexdigest(),
        )
    except ValidationError as error:
        raise ValueError(_describe(error)) from error
    return record, f"{key_id}.{secret}"


def parse_key_file(content: bytes) -> KeyFile:
    """The keys in a file.

    Raises:
        ValueError: it is no such file, or an id stands in it twice. The text has nothing of its content.
    """
    try:
        found = KeyFile.model_validate_json(content)
    except ValidationError as error:
        msg = f"it is no file of keys, as `atelier keys create` makes one: {_describe(error)}"
        raise ValueError(msg) from None
    if len({record.id for record in found.keys}) < len(found.keys):
        msg = "two keys have the same id"
        raise ValueError(msg)
    return found


def _describe(error: ValidationError) -> str:
    """The first thing that is wrong, without the value: it may be a hash, or a secret in the wrong place."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
