"""Tenants share an engine: much work of one does not keep another's waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import STATE_QUEUED, STATE_SUCCEEDED, Generation
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import image_request, on_acceptance
from tests.server.test_auth import bearer, make_key

COUNTS = {"red": 40, "blue": 6, "cyan": 1}
WEIGHTED = {"blue": {"weight": 2}}


async def test_much_work_of_a_tenant_does_not_keep_others_waiting(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Whoever has one generation waits for one of each other at most; who has twice the weight gets two in a row.

    A restart keeps the order.
    """
    keys = tmp_path / "keys.json"
    tenants = {name: bearer(make_key(keys, tenant=name)) for name in COUNTS}
    settings = {
        "auth": {"keys": {"file": str(keys)}},
        "tenants": WEIGHTED,
        "engines": {"sketch": {"type": "sketch", "concurrency": 1}},
    }
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await stub.PauseEngine(pb.PauseEngineRequest(engine="sketch"), metadata=tenants["red"])

        async def submit(tenant: str, number: int) -> Generation:
            request = on_acceptance(image_request(request_id=f"{tenant}{number}"))
            return (await stub.Generate(request, metadata=tenants[tenant])).generation

        made: list[Generation] = []
        for tenant, count in COUNTS.items():
            made = await asyncio.gather(*(submit(tenant, number) for number in range(count)))
        follow = pb.StreamProgressRequest(generation_id=made[0].id)
        async for event in stub.StreamProgress(follow, metadata=tenants["cyan"]):
            assert (event.state, event.queue_position) == (STATE_QUEUED, 1)  # blue is first
            break
    server.kill()
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await stub.ResumeEngine(pb.ResumeEngineRequest(engine="sketch"), metadata=tenants["red"])
        starts = []
        for tenant, count in COUNTS.items():
            for number in range(count):  # the same request waits for its generation
                request = image_request(request_id=f"{tenant}{number}")
                ended = (await stub.Generate(request, metadata=tenants[tenant])).generation
                assert ended.state == STATE_SUCCEEDED
                starts.append((ended.start_time.ToNanoseconds(), tenant))
    order = [tenant[0] for _, tenant in sorted(starts)]
    assert order[:10] == list("bcrbbrbbrb")
    assert order[10:] == ["r"] * 37
