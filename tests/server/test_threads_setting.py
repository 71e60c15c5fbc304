"""The number of CPU threads is a setting of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_engines.local import cpu
from atelier_server import app
from atelier_server.config.load import load


@pytest.mark.parametrize("configured", [3, None])
async def test_a_server_sets_the_threads_of_its_process(
    tmp_path: Path, configured: int | None
) -> None:
    """Or leaves them as they are, where nothing is configured."""
    config = tmp_path / "atelier.yaml"
    threads = "" if configured is None else f"threads: {configured}\n"
    config.write_text(
        f"engines: {{sketch: {{type: sketch}}}}\nlisten: 127.0.0.1:0\nmetrics: null\n{threads}"
    )
    before = cpu.configured_threads()
    cpu.configure_threads(7)
    try:
        async with app.running(load(config, data_dir=tmp_path / "data")):
            assert cpu.thread_count() == (configured or 7)
    finally:
        cpu.configure_threads(before)
