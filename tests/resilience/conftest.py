"""Connections of their own for each test, and an engine that kills its server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import aio

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer
from tests.resilience.follower import Connect
from tests.server.calls import Stub

HERE = Path(__file__).parent


@pytest.fixture
def connect() -> Connect:
    """Opens a connection that shares nothing with others, to be used under `async with`."""

    @asynccontextmanager
    async def opened(server: RunningServer) -> AsyncGenerator[Stub]:
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with aio.insecure_channel(server.address, options=options) as channel:
            yield GenerationServiceStub(channel)

    return opened


@pytest.fixture
def lethal(tmp_path: Path) -> dict[str, str]:
    """The environment in which a server finds the engine type `lethal`."""
    site = tmp_path / "site"
    information = site / "atelier_lethal-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: atelier-lethal\nVersion: 1.0\n"
    )
    (information / "entry_points.txt").write_text(
        "[atelier.engines]\nlethal = atelier_lethal:ENGINE\n"
    )
    shutil.copy(HERE / "third_party" / "atelier_lethal.py", site)
    return {"PYTHONPATH": str(site)}
