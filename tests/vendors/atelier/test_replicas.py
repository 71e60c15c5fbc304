"""Two servers behind one engine: tasks are shared out, and a server that is gone is left out until it is back."""

from __future__ import annotations

import asyncio

from grpc import aio

from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.server.calls import Stub, image_request
from tests.vendors.atelier.conftest import Launch


async def replica_of(stub: Stub) -> str:
    """Where a small task ran."""
    made: Generation = (await stub.Generate(image_request(engine="shared"))).generation
    assert made.state == State.STATE_SUCCEEDED
    (attempt,) = made.receipt.attempts
    return attempt.replica


async def until_used(stub: Stub, address: str) -> None:
    """Send tasks until one runs there."""
    while True:
        if await replica_of(stub) == address:
            return
        await asyncio.sleep(0.05)


async def test_tasks_are_shared_out_and_a_server_that_is_gone_is_left_out(
    launching: Launch,
) -> None:
    """The receipt says which server had the task; no task fails while one is gone."""
    first, second = launching("first"), launching("second")
    shared = {
        "type": "atelier",
        "engine": "sketch",
        "replicas": [first.address, second.address],
        "retry_timeout_seconds": 1,
    }
    gateway = launching("gateway", engines={"shared": shared}, health_interval_seconds=0.2)
    async with aio.insecure_channel(gateway.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        used = [await replica_of(stub) for _ in range(4)]
        assert sorted(used) == sorted([first.address, second.address] * 2)
        second.kill()
        assert {await replica_of(stub) for _ in range(3)} == {first.address}
        launching("second", address=second.address)
        await until_used(stub, second.address)
