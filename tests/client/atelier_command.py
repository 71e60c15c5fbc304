"""Runs the installed `atelier`, as a user does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ATELIER = Path(sys.executable).with_name("atelier")
PLAIN = {
    name: value
    for name, value in os.environ.items()  # noqa: TID251 - what a started program inherits
    if not name.startswith(("ATELIER", "PYTHON", "TERM", "KITTY", "TMUX", "STY", "LC_", "COLUMNS"))
}


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[object]:
        """Every line of stdout as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


async def start(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    **environment: str,
) -> asyncio.subprocess.Process:
    """Start a command with its output in pipes."""
    return await asyncio.create_subprocess_exec(
        "/usr/bin/env",
        "--default-signal=INT",  # a script's background and nohup start tests with signals ignored
        ATELIER,
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=PLAIN | environment,
    )


async def atelier(
    *arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"", **environment: str
) -> Finished:
    """Run a command to its end, with those bytes on its standard input."""
    process = await start(*arguments, cwd=cwd, stdin=asyncio.subprocess.PIPE, **environment)
    out, err = await process.communicate(stdin)
    return Finished(process.returncode or 0, out.decode(), err.decode())
