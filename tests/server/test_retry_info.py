"""When to try again: as the circuit breaker and the queue say, not one second for everything."""

from __future__ import annotations

import asyncio

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import ENGINE_STATE_UNAVAILABLE
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import Stub, image_request, on_acceptance, refusal, slow_request
from tests.server.test_estimates import start


async def until_down(stub: Stub) -> None:
    """Wait until an engine is unavailable."""
    while not any(  # noqa: ASYNC110 (in another process)
        engine.state == ENGINE_STATE_UNAVAILABLE
        for engine in (await stub.Health(pb.HealthRequest())).engines
    ):
        await asyncio.sleep(0.02)


async def test_an_open_circuit_breaker_tells_its_remaining_time(start_server: StartServer) -> None:
    """Within bounds; gRPC's own retries do not wait for so long."""
    for reset, expected in ((200, range(1, 201)), (100_000, range(300, 301))):
        breaker = {"failure_threshold": 1, "reset_timeout_seconds": reset}
        bad = {"type": "sketch", "fail_rate": 1, "breaker": breaker}
        server = start_server(engines={"bad": bad})
        async with aio.insecure_channel(server.address) as channel:
            stub: Stub = GenerationServiceStub(channel)
            assert (await refusal(stub.Generate(image_request(engine="bad")))).pushback_ms == "-1"
            await until_down(stub)
            refused = await refusal(stub.Generate(image_request(engine="bad")))
        assert refused.reason == "ENGINE_UNAVAILABLE"
        assert refused.retry_seconds is not None
        assert int(refused.retry_seconds) in expected
        assert refused.retry_seconds > 10 or reset == 200
        is_long = refused.retry_seconds > 10
        assert refused.pushback_ms == ("-1" if is_long else str(int(refused.retry_seconds * 1000)))
        server.terminate()


async def test_a_full_queue_tells_its_expected_wait(start_server: StartServer) -> None:
    """A second where that is unknown."""
    one = {"type": "sketch", "concurrency": 1, "queue_limit": 3}
    server = start_server(engines={"one": one})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        unknown = slow_request(60, engine="one", steps=4)
        ids = [await start(stub, unknown)]
        for _ in range(3):
            ids.append((await stub.Generate(on_acceptance(unknown))).generation.id)  # noqa: PERF401 (one call after the other is easier to read so)
        assert (await refusal(stub.Generate(unknown))).retry_seconds == 1
        for generation_id in reversed(ids):
            await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation_id))
        known = slow_request(3, engine="one", steps=4)
        await stub.Generate(known)
        await start(stub, known)
        for _ in range(3):
            await stub.Generate(on_acceptance(known))
        refused = await refusal(stub.Generate(known))
    assert refused.reason == "QUEUE_FULL"
    assert refused.retry_seconds is not None
    assert refused.retry_seconds > 6


async def test_a_failure_tells_the_wait_of_another_attempt(start_server: StartServer) -> None:
    """Behind what waits for the engine by then."""
    server = start_server(engines={"one": {"type": "sketch", "concurrency": 1}})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        known = slow_request(1, engine="one", steps=4)
        await stub.Generate(known)
        await start(stub, known)
        failing = slow_request(1, engine="one", steps=4)
        failing.options["fail"] = True
        failed = asyncio.ensure_future(refusal(stub.Generate(failing)))
        for _ in range(8):
            await stub.Generate(on_acceptance(known))
        refused = await failed
    assert refused.reason == "ENGINE_FAILED"
    assert refused.retry_seconds is not None
    assert refused.retry_seconds > 2
