"""A terminal for commands to run on."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.client.atelier_command import ATELIER, PLAIN


class Screen:
    """A terminal of 100 by 40 and what a program wrote on it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.text = ""
        self._changed = asyncio.Event()

    def read(self) -> None:
        """Take what was written since."""
        self.text += os.read(self._master, 1 << 16).decode(errors="replace")
        self._changed.set()

    async def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until that text was written so often."""
        while self.text.count(text) < times:
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Take the terminal away."""
        os.close(self.slave)
        os.close(self._master)


@asynccontextmanager
async def screen() -> AsyncGenerator[Screen]:
    """A terminal that is read all the time."""
    made = Screen()
    loop = asyncio.get_running_loop()
    loop.add_reader(made._master, made.read)
    try:
        yield made
    finally:
        loop.remove_reader(made._master)
        made.close()


async def run_on(
    terminal: Screen,
    *arguments: str,
    cwd: Path,
    stdout: int = asyncio.subprocess.PIPE,
    **environment: str,
) -> asyncio.subprocess.Process:
    """Start the command with that terminal as its stderr."""
    return await asyncio.create_subprocess_exec(
        "/usr/bin/env",
        "--default-signal=INT",
        ATELIER,
        *arguments,
        stdout=stdout,
        stderr=terminal.slave,
        cwd=cwd,
        env=PLAIN | {"TERM": "xterm-256color"} | environment,
    )
