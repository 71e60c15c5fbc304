"""The data directory: created where it is missing, and used by one server at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_server import app
from atelier_server.config.load import load
from atelier_server.config.settings import Settings
from atelier_server.errors import DataDirectoryInUseError
from tests.conftest import StartServer


def settings_of(data_dir: Path) -> Settings:
    """A small server with its data there."""
    config = data_dir.parent / "embedded.yaml"
    config.write_text("engines: {sketch: {type: sketch}}\nlisten: 127.0.0.1:0\nmetrics: null\n")
    return load(config, data_dir=data_dir)


async def test_a_missing_directory_is_created(tmp_path: Path) -> None:
    """With everything above it; whoever embeds the server need not do it."""
    settings = settings_of(tmp_path / "data")
    deep = settings.model_copy(update={"data_dir": tmp_path / "a" / "b"})
    async with app.running(deep):
        assert (tmp_path / "a" / "b" / "atelier.db").exists()


async def test_a_second_server_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """It says which directory is in use; the first goes on, and when it has stopped, another may start."""
    settings = settings_of(tmp_path / "data")
    async with app.running(settings):
        with pytest.raises(DataDirectoryInUseError, match=f"uses the data directory {tmp_path}"):
            async with app.running(settings):
                pytest.fail("two servers use one directory")
    async with app.running(settings):
        pass


async def test_a_server_in_another_process_is_respected(start_server: StartServer) -> None:
    """As between two commands."""
    server = start_server()
    with pytest.raises(DataDirectoryInUseError, match="another server uses the data directory"):
        async with app.running(settings_of(server.data)):
            pytest.fail("two servers use one directory")
    assert server.process.poll() is None


async def test_a_failed_start_releases_the_directory(tmp_path: Path) -> None:
    """An address that cannot be listened on leaves nothing open."""
    settings = settings_of(tmp_path / "data")
    async with app.running(settings) as address:
        other = settings.model_copy(update={"data_dir": tmp_path / "other", "listen": address})
        with pytest.raises(OSError, match="can't listen"):
            async with app.running(other):
                pytest.fail("two servers use one address")
    async with app.running(other.model_copy(update={"listen": "127.0.0.1:0"})):
        pass
