"""The public keys of an identity provider (JWKS, RFC 7517): of a file, or of an address that is asked now and then."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Protocol

import httpx2
import jwt

from atelier_engines.connections import ssl_context
from atelier_server.errors import AuthenticationUnavailableError
from atelier_server.metrics import FILES_CURRENT
from atelier_server.reloading import Reloaded

_log = logging.getLogger(__name__)
_KEY_TYPES = frozenset({"RSA", "EC", "OKP"})  # public keys; "oct" is a shared secret
_MAX_BYTES = 2**20
_TIMEOUT_SECONDS = 10.0
_MAX_AGE_SECONDS = 300.0
_MIN_PAUSE_SECONDS = 10.0
_NAME = "auth.jwt.jwks_url"


class KeySet:
    """Public keys by their ids."""

    def __init__(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        """Hold these keys, each as its JSON object."""
        self._keys = keys

    def has(self, key_id: str) -> bool:
        """Whether there is a key of that id; without an id, whether there is only one."""
        return self._find(key_id) is not None

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        """The key, to be used with that algorithm alone.

        Raises:
            jwt.PyJWTError: there is no such key, or it is for another algorithm.
        """
        found = self._find(key_id)
        if found is None:
            raise jwt.InvalidKeyError("unknown key")
        if found.get("alg", algorithm) != algorithm:
            raise jwt.InvalidAlgorithmError("the key is for another algorithm")
        return jwt.PyJWK(dict(found), algorithm)

    def _find(self, key_id: str) -> Mapping[str, Any] | None:
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)


def parse_key_set(content: bytes) -> KeySet:
    """The signature keys of a JWKS document; keys of other kinds are left out.

    Raises:
        ValueError: it is none, or it has no such key.
    """
    try:
        keys = json.loads(content)["keys"]
        usable = {
            str(key.get("kid", "")): key
            for key in keys
            if key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = "is no JWKS document: an object with a list `keys`"
        raise ValueError(msg) from error
    if not usable:
        msg = "has no public key for signatures"
        raise ValueError(msg)
    return KeySet(usable)


class KeySource(Protocol):
    """Where the keys come from."""

    async def find(self, key_id: str) -> KeySet:
        """The newest keys; asked for anew if they lack this id, but not again and again.

        Raises:
            AuthenticationUnavailableError: there are none yet.
        """


class FileKeySource:
    """The keys of a file, which is read again when it changes."""

    def __init__(self, file: Reloaded[KeySet]) -> None:
        """Read from this file."""
        self._file = file

    async def find(self, key_id: str) -> KeySet:  # noqa: ARG002 (the file is always current)
        """See KeySource.find."""
        return self._file.value


class RemoteKeySource:
    """The keys of an https address: kept 5 min, and asked for at most every 10 s, also by tokens of unknown keys."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | None = None,
        *,
        pause_seconds: float = _MIN_PAUSE_SECONDS,
    ) -> None:
        """Ask on first use; `context` says whom to trust, all that clients trust when None."""
        self._url = url
        self._context = context
        self._pause_seconds = pause_seconds
        self._keys: KeySet | None = None
        self._asked = -_MAX_AGE_SECONDS
        self._lock = asyncio.Lock()
        self._refresh: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> KeySet:
        """See KeySource.find."""
        if self._keys is None or not self._keys.has(key_id):
            await self._ask(self._pause_seconds if self._keys is not None else 1.0)
        elif self._age() > _MAX_AGE_SECONDS and (self._refresh is None or self._refresh.done()):
            self._refresh = asyncio.create_task(self._ask(_MAX_AGE_SECONDS))
        if self._keys is None:
            raise AuthenticationUnavailableError
        return self._keys

    def _age(self) -> float:
        return time.monotonic() - self._asked

    async def _ask(self, min_age_seconds: float) -> None:
        """Get the keys, unless that was tried a moment ago; what is wrong with them changes nothing."""
        async with self._lock:
            if self._age() < min_age_seconds:
                return
            self._asked = time.monotonic()
            try:
                self._keys = parse_key_set(
                    await _download(self._url, self._context or ssl_context())
                )
            except (httpx2.HTTPError, TimeoutError, ValueError) as error:
                FILES_CURRENT.labels(_NAME).set(0)
                _log.error("files_not_reloaded", extra={"key": _NAME, "reason": str(error)})
            else:
                FILES_CURRENT.labels(_NAME).set(1)


async def _download(url: str, context: ssl.SSLContext) -> bytes:
    """The document, of at most 1 MiB within 10 s; redirects are not followed."""
    content = b""
    async with (
        asyncio.timeout(_TIMEOUT_SECONDS),
        httpx2.AsyncClient(verify=context) as client,
        client.stream("GET", url) as response,
        aclosing(response.aiter_bytes()) as chunks,
    ):
        if response.status_code != httpx2.codes.OK:
            msg = f"the address answers {response.status_code}"
            raise ValueError(msg)
        async for chunk in chunks:
            content += chunk
            if len(content) > _MAX_BYTES:
                msg = "the document is over 1 MiB"
                raise ValueError(msg)
    return content
