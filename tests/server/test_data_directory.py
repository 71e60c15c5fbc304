"""The data directory: created where it is missing, and used by one server at a time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from atelier_server import app
from atelier_server.config.load import load
from atelier_server.config.settings import Settings
from atelier_server.errors import DataDirectoryInUseError, DataDirectoryUnusableError
from tests.conftest import ATELIER, StartServer


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


@pytest.mark.parametrize("place", ["data", "data/artifacts"])
async def test_a_file_in_the_place_of_a_directory_is_refused(tmp_path: Path, place: str) -> None:
    """It says which path, what is wrong, and what to do."""
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.touch()
    expected = rf"data directory {tmp_path}/data \(.*{path}.*--data-dir"
    with pytest.raises(DataDirectoryUnusableError, match=expected):
        async with app.running(settings_of(tmp_path / "data")):
            pytest.fail("a file was used as a directory")


async def test_a_database_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """SQLite opens such a file without an error, and every write fails."""
    settings = settings_of(tmp_path / "data")
    async with app.running(settings):
        pass
    path = tmp_path / "data" / "atelier.db"
    path.chmod(0o444)
    # root writes all files, unless it gives up its capabilities
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command: list[str | Path] = [*drop, ATELIER, "serve", "--config", tmp_path / "embedded.yaml"]
    ended = subprocess.run(  # noqa: ASYNC221 (nothing else runs)
        [*command, "--data-dir", tmp_path / "data"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert f"cannot use {path} (attempt to write a readonly database)" in ended.stderr


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
