"""docs/client.md and docs/command-line.md match the code."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from atelier_client.cli.exit_codes import EPILOG, ExitCode
from tests.client.atelier_command import PLAIN, atelier
from tests.conftest import ROOT, RunningServer

PAGE = (ROOT / "docs" / "client.md").read_text()
COMMANDS = (ROOT / "docs" / "command-line.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("program", PROGRAMS)
async def test_every_program_runs(program: str, server: RunningServer, tmp_path: Path) -> None:
    """Unchanged, against the real server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env=PLAIN | {"ATELIER_SERVER": server.address},
    )
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_the_help_is_the_help() -> None:
    """The page shows the output of the command."""
    ended = await atelier("generate", "--help", COLUMNS="100")
    assert f"$ atelier generate --help\n{ended.out}```" in COMMANDS


def test_the_exit_codes_are_documented() -> None:
    """With the same text in the page and in `atelier --help`."""
    told = dict(re.findall(r"^\| (\d+) \| (.*) \|$", COMMANDS, re.MULTILINE))
    helped = dict(re.findall(r"^ +(\d+)  (.*)$", EPILOG, re.MULTILINE))
    assert told == helped
    assert {int(code) for code in told} == set(ExitCode)
