"""A small file system of its own, for tests that fill a disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MOUNT = shutil.which("mount") or ""
_UMOUNT = shutil.which("umount") or ""


class MountError(Exception):
    """No file system may be mounted here; the text says why."""


@contextmanager
def mounted(directory: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes at the directory, which is made if missing.

    Raises:
        MountError: there is no command for it, or this user may not mount anything.
    """
    if not _MOUNT:
        raise MountError("there is no command to mount a file system with")
    directory.mkdir(parents=True, exist_ok=True)
    command = [_MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise MountError(f"no file system can be mounted here: {answer.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([_UMOUNT, "--lazy", str(directory)], check=True)


def resize(directory: Path, size: int) -> None:
    """Change the size of the file system that is mounted at the directory."""
    subprocess.run([_MOUNT, "-o", f"remount,size={size}", str(directory)], check=True)


def make_read_only(directory: Path) -> None:
    """Let nothing more be written to the file system that is mounted at the directory."""
    subprocess.run([_MOUNT, "-o", "remount,ro", str(directory)], check=True)


def leave_free(directory: Path, free: int) -> None:
    """Leave about so many bytes free on the file system that is mounted at the directory.

    Raises:
        MountError: others filled the space faster than it could be measured, ten times.
    """
    for _ in range(10):
        # A size below what is used by then is an error of the mount: others write meanwhile.
        with suppress(subprocess.CalledProcessError):
            resize(directory, shutil.disk_usage(directory).used + free)
            return
    raise MountError("the file system was in use at each try to make it smaller")
