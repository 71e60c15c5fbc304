"""When a server is ready: for /readyz, for gRPC's own health service, and in Health."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub
from tests.server.conftest import install_odd
from tests.server.test_metrics import fetch

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FINE = {"type": "odd"}
ABSENT = {"type": "odd", "start": "fails"}
SKETCH = {"type": "sketch"}


@pytest.mark.parametrize("service", ["", "atelier.v1.GenerationService"])
async def test_a_server_whose_engine_loads_is_not_ready(
    start_server: StartServer, tmp_path: Path, service: str
) -> None:
    """A placeholder can't do its work; once the engine has loaded, who watches is told at once."""
    loaded = tmp_path / "loaded"
    slow = {"type": "odd", "start": "waits", "wait_for": str(loaded)}
    server = _start(start_server, tmp_path, {"slow": slow, "sketch": SKETCH}, wait=["sketch"])
    async with aio.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        stub: Stub = GenerationServiceStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
        assert (await watch.read()).status == NOT_SERVING
        answer = await stub.Health(pb.HealthRequest())
        assert answer.status == pb.SERVING_STATUS_NOT_SERVING
        assert answer.message == "engines are not ready: slow (starting)"
        assert answer.accepts_generations
        assert fetch(server, "/readyz") == (503, "not ready\n")
        assert fetch(server, "/healthz")[0] == 200
        loaded.touch()
        async with asyncio.timeout(300):
            assert (await watch.read()).status == SERVING
        answer = await stub.Health(pb.HealthRequest())
        assert (answer.status, answer.message) == (pb.SERVING_STATUS_SERVING, "")
        assert fetch(server, "/readyz") == (200, "ready\n")


@pytest.mark.parametrize(
    ("engines", "message"),
    [
        ({"one": FINE, "other": ABSENT}, ""),
        ({"one": FINE, "other": {**ABSENT, "required": True}}, "other"),
        ({"one": {**FINE, "required": True}, "other": {**ABSENT, "required": True}}, "other"),
        ({"one": ABSENT, "other": {**SKETCH, "required": True}}, ""),
        ({"one": ABSENT, "other": ABSENT, "third": SKETCH}, "one"),
        ({"one": SKETCH, "other": SKETCH}, ""),
    ],
)
async def test_which_engines_count(
    start_server: StartServer,
    tmp_path: Path,
    engines: Mapping[str, Mapping[str, object]],
    message: str,
) -> None:
    """All that are required, or any that is no placeholder, or any at all where all are placeholders."""
    fine = [name for name, engine in engines.items() if "start" not in engine]
    server = _start(start_server, tmp_path, engines, wait=fine)
    ready = not message
    async with aio.insecure_channel(server.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        stub: Stub = GenerationServiceStub(channel)
        checked = await health.Check(health_pb2.HealthCheckRequest())
        answer = await stub.Health(pb.HealthRequest())
    assert checked.status == (SERVING if ready else NOT_SERVING)
    assert (answer.status == pb.SERVING_STATUS_SERVING) == ready
    assert message in answer.message
    assert fetch(server, "/readyz")[0] == (200 if ready else 503)


def _start(
    start_server: StartServer,
    directory: Path,
    engines: Mapping[str, Mapping[str, object]],
    *,
    wait: list[str],
) -> RunningServer:
    return start_server(engines=engines, environment=install_odd(directory / "site"), wait=wait)
