"""A real server that dies while InvokeAI draws for it."""

from __future__ import annotations

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import events_of, eventually, image_request, on_acceptance
from tests.vendors.invokeai.stand_in import StandIn


async def test_a_server_killed_half_way_finds_its_work_and_asks_for_nothing_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """What InvokeAI went on with meanwhile is fetched by the next process."""
    engines = {"studio": {"type": "invokeai", "base_url": vendor.api, "poll_seconds": 0.02}}
    vendor.queue.stuck = True
    first = start_server(engines=engines)
    async with aio.insecure_channel(first.address) as channel:
        stub = GenerationServiceStub(channel)
        asked = await stub.Generate(
            on_acceptance(image_request(engine="studio", task={"steps": 4}))
        )
        follow = pb.StreamProgressRequest(generation_id=asked.generation.id)
        async for event in stub.StreamProgress(follow):
            if event.step:
                break
    first.kill()
    vendor.queue.stuck = False
    await eventually(lambda: all(i.status == "completed" for i in vendor.queue.items.values()))
    second = start_server(engines=engines)
    async with aio.insecure_channel(second.address) as channel:
        events = await events_of(GenerationServiceStub(channel), follow)
    assert events[-1].state == State.STATE_SUCCEEDED
    assert len(vendor.batches) == 1
    assert not vendor.cancelled
