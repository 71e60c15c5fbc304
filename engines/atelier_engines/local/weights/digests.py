"""Tells weight files apart: quickly by path, size and time, certainly by SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIdentity:
    """Tells whether a file is still the same without reading it."""

    path: Path
    """The resolved path."""
    size: int
    """Size in bytes."""
    modified_ns: int
    """Time of the last change, in nanoseconds."""


def identify(path: Path) -> FileIdentity:
    """The identity of the file at `path` as it is now.

    Raises:
        OSError: there is no such file.
    """
    found = path.resolve()
    status = found.stat()
    return FileIdentity(path=found, size=status.st_size, modified_ns=status.st_mtime_ns)


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path, weights: Sequence[Path]) -> str:
    """SHA-256, in hexadecimal, over the weight files of a directory.

    It is the digest of the lines that `sha256sum` writes for the files, with paths relative to
    `folder`, in the order of the paths.
    """
    with ThreadPoolExecutor(thread_name_prefix="atelier-digest") as pool:
        sums = list(pool.map(digest_file, weights))
    files = (path.relative_to(folder).as_posix() for path in weights)
    return digest_lines(dict(zip(files, sums, strict=True)))


def digest_lines(digests: Mapping[str, str]) -> str:
    """SHA-256 of the lines that `sha256sum` writes for files of these names and digests."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()
