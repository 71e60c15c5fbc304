"""An engine whose networks are not built serves all the same, and says what runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from atelier_client import Client
from tests.client.atelier_command import atelier
from tests.conftest import RunningServer, launch
from tests.server.test_metrics import fetch


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With nothing built."""
    folder: Path = tmp_path_factory.mktemp("fallbacks")
    tiny = {
        "type": "diffusion",
        "device": "cpu",
        "runtime": {"denoiser": "onnx"},
        "on_missing_build": "fallback",
        "builds_directory": str(folder / "builds"),
    }
    running = launch(folder, environment={}, wait=["tiny"], engines={"tiny": tiny})
    yield running
    running.kill()


async def test_capabilities_and_metrics_say_what_runs_a_component(server: RunningServer) -> None:
    """By its name, with the reason; the command line shows it."""
    with Client(server.address) as client:
        (engine,) = client.capabilities().engines
    reason = "the unet is not built for onnx"
    assert engine.runtimes["denoiser"] == "torch"
    assert engine.runtime_fallbacks == {"denoiser": reason}
    _, metrics = await asyncio.to_thread(fetch, server, "/metrics")
    assert 'atelier_runtime_fallbacks{engine="tiny"} 1.0' in metrics
    page = await atelier("engines", "tiny", "--server", server.address)
    assert f"torch, not as configured: {reason}" in " ".join(page.out.split())
