"""docs/cli.svg shows what the commands print today."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

from tests.client.screenshot import FILE, draw, read_texts, run_commands, start_server


def test_the_screenshot_is_what_the_commands_print(tmp_path: Path) -> None:
    """But for ids, times and colours; `make screenshots` draws it anew."""
    server = start_server(tmp_path)
    try:
        drawn = draw(run_commands(server, tmp_path))
    finally:
        server.kill()
    assert read_texts(drawn) == read_texts(FILE.read_text())
    assert drawn.count("▀") > 100
    assert "http://" not in drawn.replace("http://www.w3.org/", "")
    assert "https://" not in drawn
