"""Stubs, and a second shared server with engines of many kinds."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from grpc import aio
from PIL import Image

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, launch
from tests.server.calls import Stub

HERE = Path(__file__).parent


def install(name: str, folder: Path) -> dict[str, str]:
    """Put a third party's engine of that type into the folder; returns the environment in which it is found."""
    information = folder / f"atelier_{name}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: atelier-{name}\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(
        f"[atelier.engines]\n{name} = atelier_{name}:ENGINE\n"
    )
    shutil.copy(HERE / "third_party" / f"atelier_{name}.py", folder)
    return {"PYTHONPATH": str(folder)}


def install_odd(folder: Path) -> dict[str, str]:
    """`install` the engine that makes trouble."""
    return install("odd", folder)


@pytest.fixture
async def stub(server: RunningServer) -> AsyncIterator[Stub]:
    """Calls the shared server."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with engines of many kinds, shared as `server` is."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "album").mkdir()
    Image.new("RGB", (32, 32), "red").save(folder / "album" / "red.png")
    engines = {
        "dear": {"type": "sketch", "price_per_image": 0.5, "concurrency": 1},
        "sketch": {"type": "sketch"},
        "twin": {"type": "sketch"},
        "album": {"type": "sketch", "image_directory": str(folder / "album")},
        "narrow": {"type": "sketch", "concurrency": 1, "queue_limit": 2},
        "stuck": {"type": "sketch", "concurrency": 1, "hang": True},
        "lame": {"type": "sketch", "fail_rate": 1, "fallbacks": ["lamer", "odd", "twin"]},
        "lamer": {"type": "sketch", "fail_rate": 1},
        "odd": {"type": "odd", "breaker": {"failure_threshold": 1000}},
        "odder": {"type": "odd", "fallbacks": ["twin"], "cancel": "remote"},
        "absent": {"type": "odd", "start": "fails"},
        "broken": {"type": "odd", "start": "breaks"},
        "loading": {"type": "odd", "start": "hangs"},
    }
    running = launch(
        folder,
        environment=install_odd(folder / "site"),
        wait=[name for name in engines if name not in {"absent", "broken", "loading"}],
        engines=engines,
        default_engine="dear",
    )
    yield running
    running.kill()


@pytest.fixture
async def workshop_stub(workshop: RunningServer) -> AsyncIterator[Stub]:
    """Calls the server with many engines."""
    async with aio.insecure_channel(workshop.address) as channel:
        yield GenerationServiceStub(channel)
