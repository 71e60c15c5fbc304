"""A server that is killed while fal works finds its job again, and pays once."""

from __future__ import annotations

from grpc import aio

from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.conformance.fake_server import respond
from tests.conftest import StartServer
from tests.resilience.follower import Follower, wait_until
from tests.server.calls import later, picture
from tests.vendors.fal.stand_in import KEY, StandIn


async def test_a_killed_server_attaches_to_its_job_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The handle was stored before the first poll."""
    engine = {"type": "fal", "api_key": KEY, "base_url": vendor.queue, "poll_seconds": 0.02}
    vendor.polls.always = respond(202, {"status": "IN_PROGRESS", "logs": None})
    server = start_server(engines={"fal": engine})
    request = later(picture(engine="fal", task={"width": 256, "height": 256}))
    async with aio.insecure_channel(server.address) as channel:
        accepted = await GenerationServiceStub(channel).Generate(request)

        async def polling() -> bool:
            return any(job.asked for job in vendor.jobs.values())

        await wait_until(polling)
        server.kill()
    vendor.polls.clear()
    again = start_server(engines={"fal": engine})
    follower = Follower(accepted.generation.id)
    async with aio.insecure_channel(again.address) as channel:
        await follower.follow(GenerationServiceStub(channel))
    assert follower.last_state == State.STATE_SUCCEEDED
    assert len(vendor.jobs) == 1
