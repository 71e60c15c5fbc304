"""`atelier generate` while its engine is loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.atelier_command import atelier, start
from tests.conftest import StartServer
from tests.server.conftest import install_odd


@pytest.mark.parametrize("named", [["--engine", "slow"], []])
async def test_generate_waits_for_an_engine_that_is_loading(
    start_server: StartServer, tmp_path: Path, named: list[str]
) -> None:
    """It says so, and saves the image once the engine is ready."""
    loaded, image = tmp_path / "loaded", tmp_path / "lamp.png"
    server = start_server(
        wait=(),
        environment=install_odd(tmp_path / "site"),
        engines={"slow": {"type": "odd", "start": "waits", "wait_for": str(loaded)}},
    )
    size = ["--size", "64", "--quiet", "-o", str(image)]
    command = await start("generate", "a lamp", *named, *size, "--server", server.address)
    assert command.stderr is not None
    assert "engine slow" in (await command.stderr.readline()).decode()
    loaded.touch()
    await command.communicate()
    assert command.returncode == 0
    assert image.read_bytes().startswith(b"\x89PNG")


async def test_generate_does_not_wait_for_an_engine_that_is_unavailable(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It names the reason, and exits with 3."""
    server = start_server(
        wait=["fine"],
        environment=install_odd(tmp_path / "site"),
        engines={"absent": {"type": "odd", "start": "fails"}, "fine": {"type": "odd"}},
    )
    size = ["--size", "64"]
    command = ["generate", "a lamp", "--engine", "absent", *size, "--server", server.address]
    finished = await atelier(*command)
    assert finished.code == 3
    assert "no weights" in finished.err
