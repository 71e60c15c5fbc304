"""Weights at an address: `https://HOST/PATH#sha256=DIGEST`, downloaded once, and only from hosts that are allowed.

The digest says which bytes they are, whatever the host sends later; it is also the name of the file in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpx2

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.downloads import open_download
from atelier_engines.local.weights import safetensors_header

_FORM = re.compile(r"https://[^/?#@\s]+/[^#\s]*#sha256=(?P<digest>[0-9a-f]{64})")
_LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressCache:
    """Where downloads are kept, and where they may come from."""

    directory: Path
    """Has a file for each digest."""
    hosts: tuple[str, ...]
    """Names of hosts; one that begins with a dot stands for all below it."""
    certificates: ssl.SSLContext | None = None
    """Whom to trust; None for those of the system."""
    max_bytes: int = 4 * 2**30
    """Maximum size of a file."""


def is_address(source: str) -> bool:
    """Whether the source of weights is an address rather than a path or the id of a hub."""
    return source.startswith(("https://", "http://"))


def require_allowed(address: str, hosts: tuple[str, ...]) -> None:
    """Return if weights may be downloaded from there.

    Raises:
        ValueError: it has another form, or its host is not among those allowed.
    """
    if _FORM.fullmatch(address) is None:
        raise ValueError(
            f"{address} must be https://HOST/PATH#sha256=DIGEST, with the SHA-256 of the file in 64 digits"
        )
    _require_host(address, hosts)


def fetch(address: str, cache: AddressCache, *, download: bool) -> Path:
    """The file at the address, from the cache or downloaded; its bytes have the digest. Blocks.

    Raises:
        ModelMissingError: it is not in the cache and may not be downloaded, cannot be, has another digest, or is no
            safetensors file.
    """
    try:
        require_allowed(address, cache.hosts)
    except ValueError as error:
        raise ModelMissingError(str(error)) from error
    url, _, digest = address.partition("#sha256=")
    path = cache.directory / f"{digest}.safetensors"
    if path.is_file():
        return path
    if not download:
        raise ModelMissingError(f"{url} is not in {cache.directory}, and download is off")
    cache.directory.mkdir(parents=True, exist_ok=True)
    with _turn(cache.directory):
        if not path.is_file():  # nobody downloaded it meanwhile
            _download_checked(url, path, digest, cache)
    return path


@contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Wait until no other process or thread downloads into the directory; a process that dies gives its turn up."""
    with (directory / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download_checked(url: str, path: Path, digest: str, cache: AddressCache) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        found = _download(url, partial, cache)
        if found != digest:
            raise ModelMissingError(f"{url} has the SHA-256 {found} and not {digest}")
        safetensors_header.read(partial)
        partial.replace(path)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        raise ModelMissingError(f"{url} cannot be downloaded: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _download(url: str, path: Path, cache: AddressCache) -> str:
    """Write the file, and return its SHA-256; raises ValueError where it is refused."""
    with (
        path.open("wb") as file,
        open_download(
            url,
            require=lambda moved: _require_host(moved, cache.hosts),
            certificates=cache.certificates,
        ) as response,
    ):
        if not response.is_success:
            raise ValueError(f"{response.status_code} {response.reason_phrase}")
        return _copy(response, file, cache.max_bytes)


def _copy(response: httpx2.Response, file: IO[bytes], max_bytes: int) -> str:
    digest, size = hashlib.sha256(), 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > max_bytes:
            raise ValueError(f"it has more than {max_bytes} bytes")
        digest.update(chunk)
        file.write(chunk)
    return digest.hexdigest()


def _require_host(url: str, hosts: tuple[str, ...]) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    allowed = any(host == one or (one.startswith(".") and host.endswith(one)) for one in hosts)
    if parts.scheme != "https" or not allowed:
        known = ", ".join(hosts) or "none"
        raise ValueError(f"weights may not come from {parts.scheme}://{host}; allowed are {known}")
