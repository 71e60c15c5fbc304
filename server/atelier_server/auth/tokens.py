"""Tokens of an identity provider: JWT (RFC 7519), signed with one of its public keys."""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from atelier_server.auth.caller import Caller
from atelier_server.auth.key_sets import KeySet, KeySource
from atelier_server.config.security_settings import SCOPES, TENANT_PATTERN, JwtSettings
from atelier_server.errors import UnauthenticatedError

_LEEWAY_SECONDS = 30  # clocks differ
_MAX_VERIFIED = 10_000
_MAX_TOKEN_BYTES = 8192
_REASONS: Mapping[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
}


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    expires: float
    """Unix time."""
    keys: KeySet
    """What it was verified with; other keys have it verified again."""


class TokenVerifier:
    """Finds out who a token was issued for."""

    def __init__(self, settings: JwtSettings, source: KeySource) -> None:
        """Accept what these settings allow, signed with keys of that source."""
        self._settings = settings
        self._source = source
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def find(self, token: str) -> Caller:
        """Whom the token was issued for. Of a known token this costs a hash.

        Raises:
            UnauthenticatedError: it is not valid, or not for this server.
            AuthenticationUnavailableError: there are no keys yet to verify it with.
        """
        if len(token) > _MAX_TOKEN_BYTES:
            raise _refuse("it is too long")
        key_id, algorithm = self._read_header(token)
        keys = await self._source.find(key_id)
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._verified.get(digest)
        if known is not None and known.keys is keys and time.time() < known.expires:
            return known.caller
        caller, expires = self._verify(token, keys, key_id, algorithm)
        self._verified[digest] = _Verified(caller, expires + _LEEWAY_SECONDS, keys)
        if len(self._verified) > _MAX_VERIFIED:
            self._verified.popitem(last=False)
        return caller

    def _read_header(self, token: str) -> tuple[str, str]:
        """Id of the key, and the algorithm, both as the token claims."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refuse("it is no token") from None
        algorithm, key_id = header.get("alg"), header.get("kid", "")
        if algorithm not in self._settings.algorithms:
            raise _refuse("it is signed with an algorithm that is not allowed")
        return str(key_id), str(algorithm)

    def _verify(
        self, token: str, keys: KeySet, key_id: str, algorithm: str
    ) -> tuple[Caller, float]:
        """Who it was issued for, and the Unix time at which it expires."""
        settings = self._settings
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                keys.find(key_id, algorithm),
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.MissingRequiredClaimError as error:
            raise _refuse(f"it lacks the claim {error.claim!r}") from None
        except jwt.PyJWTError as error:
            raise _refuse(_REASONS.get(type(error), "its signature or form is wrong")) from None
        return self._to_caller(claims), float(claims["exp"])

    def _to_caller(self, claims: Mapping[str, Any]) -> Caller:
        tenant = claims.get(self._settings.tenant_claim)
        if not isinstance(tenant, str) or not re.fullmatch(TENANT_PATTERN, tenant):
            raise _refuse(f"its claim {self._settings.tenant_claim!r} names no tenant")
        given = claims.get("scope", "")
        scopes = SCOPES.intersection(given.split() if isinstance(given, str) else [])
        return Caller(tenant=tenant, subject=str(claims["sub"]), scopes=scopes)


def _refuse(reason: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"the token is not valid: {reason}")
