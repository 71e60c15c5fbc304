"""Runs a script with the readers of others, which have an environment of their own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = ROOT / ".tools" / "sdk" / "readers" / "bin" / "python"

needs_readers = pytest.mark.skipif(not PYTHON.exists(), reason="`make sdks` has not been run")
"""Marks tests that run a session."""


async def run_session(script: str, *arguments: str | Path) -> dict[str, dict[str, object]]:
    """What the script, a neighbour of this file, prints as JSON."""
    path = Path(__file__).with_name(script)
    session = await asyncio.create_subprocess_exec(
        PYTHON, path, *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await session.communicate()
    told: dict[str, dict[str, object]] = json.loads(output)
    return told
