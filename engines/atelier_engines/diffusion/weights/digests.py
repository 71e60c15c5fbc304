"""Digests that tell whether weights are the ones that were meant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(folder: Path, weights: Sequence[Path]) -> str:
    """SHA-256, in hexadecimal, over the weight files of a directory.

    It is the digest of the lines that `sha256sum` writes for the files, with paths relative to
    `folder`, in the order of the paths.
    """
    with ThreadPoolExecutor(thread_name_prefix="atelier-digest") as pool:
        sums = list(pool.map(of_file, weights))
    files = (path.relative_to(folder).as_posix() for path in weights)
    return of_lines(dict(zip(files, sums, strict=True)))


def of_lines(digests: Mapping[str, str]) -> str:
    """SHA-256 of the lines that `sha256sum` writes for files of these names and digests."""
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()
