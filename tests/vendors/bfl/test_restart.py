"""A real server is killed while Black Forest Labs is at work."""

from __future__ import annotations

import asyncio

from aiohttp import web
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from tests.conftest import StartServer
from tests.server.calls import Stub
from tests.vendors.bfl.stand_in import KEY, StandIn


async def test_a_killed_server_finds_its_job_again_and_pays_once(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The handle was stored before the first poll, so the next process polls on."""
    polled: list[web.Request] = []

    async def pending(request: web.Request) -> web.StreamResponse:
        polled.append(request)
        return web.json_response({"id": "job-0", "status": "Pending"})

    vendor.polls.always = pending
    engine = {"type": "bfl", "api_key": KEY, "base_url": vendor.api, "poll_seconds": 0.01}
    server = start_server(engines={"flux": engine})
    request = pb.GenerateRequest(image=ImageTask(prompt="a lighthouse", width=64, height=64))
    request.response_mode = pb.RESPONSE_MODE_ON_ACCEPTANCE
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        accepted = await stub.Generate(request)
        while not polled:  # noqa: ASYNC110 (the stand-in lives in another thread)
            await asyncio.sleep(0.005)
    server.kill()
    vendor.polls.clear()
    server = start_server(engines={"flux": engine})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        ended = await _ended(stub, accepted.generation.id)
    assert ended.state == State.STATE_SUCCEEDED
    assert len(vendor.jobs) == 1
    assert KEY not in server.log.read_text()


async def _ended(stub: Stub, generation_id: str) -> Generation:
    call = stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id))
    ended = Generation()
    async for event in call:
        ended.CopyFrom(event.generation)
    return ended
