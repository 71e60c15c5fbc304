"""Writes files whole or not at all: what a full disk or Ctrl-C cut is never found under the name of the file."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet.

    Raises:
        FileExistsError: it does.
        OSError: it cannot be written.
    """
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def overwrite(path: Path, data: bytes) -> None:
    """Write a file, in the place of one of that name; that one stays if this fails.

    Raises:
        OSError: it cannot be written.
    """
    if path.exists() and not path.is_file():  # a device or a pipe
        path.write_bytes(data)
        return
    target = path.resolve()  # a link stays one
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    write_new(draft, data)
    try:
        os.replace(draft, target)  # noqa: PTH105 - Path.replace returns the target
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
