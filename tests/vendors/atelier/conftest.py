"""The other server: a real one, with a sketch engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningServer, launch

Launch = Callable[..., RunningServer]


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The other server, shared by all tests that do not change it."""
    running = launch(tmp_path_factory.mktemp("other"))
    yield running
    running.kill()


@pytest.fixture
def launching(tmp_path: Path) -> Iterator[Launch]:
    """Starts servers by name, each with a directory of its own; they are stopped after the test."""
    started: list[RunningServer] = []

    def start(name: str, **config: object) -> RunningServer:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        server = launch(directory, **config)  # type: ignore[arg-type]  # settings by name
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()
