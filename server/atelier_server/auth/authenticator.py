"""Finds out who makes a call, by what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atelier_server.auth.caller import Caller
from atelier_server.auth.key_sets import (
    FileKeySource,
    KeySet,
    KeySource,
    RemoteKeySource,
    parse_key_set,
)
from atelier_server.auth.keys import Keyring, parse_key_file
from atelier_server.auth.tokens import TokenVerifier
from atelier_server.config.security_settings import AuthSettings, JwtSettings
from atelier_server.errors import UnauthenticatedError
from atelier_server.reloading import Reloaded

_SCHEME = "bearer "
_TOKEN_DOTS = 2  # header.claims.signature; a key has one
_MISSING = (
    "this server wants to know who calls: send the metadata `authorization: Bearer KEY`, which --token and "
    "ATELIER_TOKEN do"
)
_WRONG = "the key is not valid: it is unknown, revoked or mistyped"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Authenticator:
    """The ways to prove who one is, as configured."""

    keys: Reloaded[Keyring] | None
    tokens: TokenVerifier | None
    certificates: Mapping[str, Caller]
    """Callers by a name in their client certificates (SAN)."""
    files: Sequence[Reloaded[Any]] = ()
    """What is read again when it changes."""

    async def identify(
        self, authorization: Sequence[str], read_names: Callable[[], Iterable[str]]
    ) -> Caller:
        """Who makes the call.

        Args:
            authorization: every value of the metadata `authorization`. One that is wrong is not forgiven, whatever
                the certificate says.
            read_names: the names in the client certificate of the connection; it is called only if they matter.

        Raises:
            UnauthenticatedError: nothing proves who it is.
            AuthenticationUnavailableError: the identity provider has not answered yet.
        """
        if len(authorization) > 1:
            raise UnauthenticatedError("there must be one metadata `authorization`, not several")
        if authorization:
            return await self._find_bearer(authorization[0])
        if self.certificates:
            for name in read_names():
                if (caller := self.certificates.get(name)) is not None:
                    return caller
            if self.keys is None and self.tokens is None:
                raise UnauthenticatedError("no name in your certificate is configured")
        raise UnauthenticatedError(_MISSING)

    async def _find_bearer(self, value: str) -> Caller:
        if not value[: len(_SCHEME)].lower() == _SCHEME:
            raise UnauthenticatedError(_MISSING)
        token = value[len(_SCHEME) :].strip()
        if self.tokens is not None and token.count(".") == _TOKEN_DOTS:
            return await self.tokens.find(token)
        caller = None if self.keys is None else self.keys.value.find(token)
        if caller is None:
            raise UnauthenticatedError(_WRONG)
        return caller


def open_authenticator(settings: AuthSettings) -> Authenticator:
    """Read the files of the settings.

    Raises:
        ConfigurationError: one cannot be read, or is wrong.
    """
    files: list[Reloaded[Any]] = []
    keys: Reloaded[Keyring] | None = None
    if settings.keys is not None:
        keys = Reloaded("auth.keys.file", [settings.keys.file], _parse_keys)
        files.append(keys)
    tokens = None
    if settings.jwt is not None:
        tokens = TokenVerifier(settings.jwt, _open_source(settings.jwt, files))
    certificates = {
        name: Caller(tenant=given.tenant, subject=name, scopes=frozenset(given.scopes))
        for name, given in settings.certificates.items()
    }
    return Authenticator(keys=keys, tokens=tokens, certificates=certificates, files=files)


def _parse_keys(contents: Sequence[bytes]) -> Keyring:
    return Keyring(parse_key_file(contents[0]).keys)


def _parse_key_set(contents: Sequence[bytes]) -> KeySet:
    return parse_key_set(contents[0])


def _open_source(settings: JwtSettings, files: list[Reloaded[Any]]) -> KeySource:
    if settings.jwks_file is None:
        return RemoteKeySource(str(settings.jwks_url))
    file: Reloaded[KeySet] = Reloaded("auth.jwt.jwks_file", [settings.jwks_file], _parse_key_set)
    files.append(file)
    return FileKeySource(file)
