"""Servers in the test's own process, so that a test holds the engine behind them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import yaml

from atelier_client import AsyncClient, EngineState
from atelier_engines.engine import Engine
from atelier_engines.vendors.atelier import ENGINE, AtelierConfig
from atelier_server import app
from atelier_server.config.load import load
from tests.conftest import free_port
from tests.totality.recording_engine import SCRIPTS, RecordingEngine, install

Serve = Callable[[RecordingEngine], AbstractAsyncContextManager[str]]
CONCURRENCY = 256


@pytest.fixture
def serve(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """Serves the engine as `deep`, and over an engine that forwards to it, as `far`; yields the address."""
    install(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")

    @asynccontextmanager
    async def running(name: str, engines: dict[str, object]) -> AsyncGenerator[str]:
        settings: dict[str, object] = {
            "engines": engines,
            "listen": f"127.0.0.1:{free_port()}",
            "metrics": None,
            "data_dir": str(tmp_path_factory.mktemp(name)),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        async with app.running(load(path)) as address:
            await ready(address)
            yield address

    @asynccontextmanager
    async def serving(engine: RecordingEngine) -> AsyncGenerator[str]:
        script = uuid.uuid4().hex
        SCRIPTS[script] = engine
        async with running("back", {"deep": {"type": "recording", "script": script}}) as back:
            far = {"type": "atelier", "address": back, "engine": "deep", "concurrency": CONCURRENCY}
            engines: dict[str, object] = {
                "deep": {"type": "recording", "script": script},
                "far": far,
            }
            async with running("front", engines) as address:
                yield address

    return serving


async def ready(address: str) -> None:
    """Wait until every engine of the server can work."""
    async with AsyncClient(address) as client:
        while any(
            engine.state is not EngineState.READY for engine in (await client.health()).engines
        ):
            pass


@asynccontextmanager
async def forwarding(address: str, engine: str) -> AsyncGenerator[Engine]:
    """An engine that forwards to the one of that name, started."""
    made = ENGINE.create(AtelierConfig(address=address, engine=engine, concurrency=CONCURRENCY))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
