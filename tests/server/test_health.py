"""Health, ours and gRPC's own, per engine."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from tests.conftest import RunningServer
from tests.server.calls import Stub

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_the_service_and_each_engine_say_how_they_are(workshop_stub: Stub) -> None:
    """The service serves though some engines can't."""
    answer = await workshop_stub.Health(pb.HealthRequest())
    assert answer.status == pb.SERVING_STATUS_SERVING
    engines = {engine.engine: engine for engine in answer.engines}
    assert engines["sketch"].state == engine_pb2.ENGINE_STATE_READY
    assert engines["absent"].state == engine_pb2.ENGINE_STATE_UNAVAILABLE
    assert "/models" in engines["absent"].message
    assert answer.uptime.ToMicroseconds() > 0
    assert answer.version


@pytest.mark.parametrize(
    ("service", "status"),
    [
        ("", SERVING),
        ("atelier.v1.GenerationService", SERVING),
        ("atelier/liveness", SERVING),
        ("sketch", SERVING),
        ("absent", NOT_SERVING),
        ("loading", NOT_SERVING),
    ],
)
async def test_the_standard_health_service_knows_every_engine(
    workshop: RunningServer,
    service: str,
    status: int,
) -> None:
    """By Check, and by Watch, whose first answer comes at once."""
    request = health_pb2.HealthCheckRequest(service=service)
    async with aio.insecure_channel(workshop.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(request)).status == status
        watch = stub.Watch(request)
        assert (await watch.read()).status == status
        watch.cancel()


async def test_an_unknown_service_is_not_found(workshop: RunningServer) -> None:
    """As the health protocol has it; Watch says SERVICE_UNKNOWN and goes on."""
    request = health_pb2.HealthCheckRequest(service="nobody")
    async with aio.insecure_channel(workshop.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Check(request)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(request)
        unknown = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert (await watch.read()).status == unknown
        watch.cancel()
