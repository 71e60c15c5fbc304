"""A server that is told to stop does not wait for what would take long and is of no use any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunningServer, StartServer
from tests.server.conftest import install_odd


def _events(server: RunningServer) -> list[str]:
    return [str(line["event"]) for line in server.log_lines()]


def test_a_model_that_is_being_loaded_is_abandoned(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Its thread cannot be stopped and would go on for many minutes; the exit status is 0, and the data usable."""
    engines = {"slow": {"type": "odd", "start": "loads"}, "sketch": {"type": "sketch"}}
    environment = install_odd(tmp_path / "site")
    server = start_server(engines=engines, wait=["sketch"], environment=environment)
    assert server.terminate() == 0
    events = _events(server)
    assert events.index("drain_started") < events.index("engine_abandoned")
    assert events[-1] == "server_stopped"
    assert start_server().terminate() == 0


def test_it_stops_while_torch_is_being_imported(start_server: StartServer) -> None:
    """The import holds a thread for seconds, and the model would be loaded after that."""
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    server = start_server(engines={"tiny": {"type": "diffusion", "device": "cpu"}}, wait=[])
    assert server.terminate() == 0
    assert _events(server)[-1] == "server_stopped"
    assert "engine_ready" not in _events(server)


def test_an_engine_that_has_nothing_to_wait_for_is_stopped_in_order(
    start_server: StartServer,
) -> None:
    """Nothing is abandoned without need."""
    server = start_server()
    assert server.terminate() == 0
    assert "engine_abandoned" not in _events(server)
