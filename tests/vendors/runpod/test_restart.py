"""A server that is killed or told to stop while a job runs at RunPod finds it again, and pays once."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from grpc import aio

from atelier.v1.generation_pb2 import CancelOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.resilience.follower import Follower
from tests.server.calls import eventually, image_request, on_acceptance
from tests.vendors.restart_conformance import CancellableOrderRestart, Settings
from tests.vendors.runpod.stand_in import ENDPOINT, StandIn


class TestRestart(CancellableOrderRestart):
    """See CancellableOrderRestart."""

    @pytest.fixture
    def engine(self, vendor: StandIn) -> Settings:
        """At the stand-in."""
        return {"type": "runpod", "base_url": vendor.api, "endpoint": ENDPOINT}


async def test_a_cancellation_does_not_claim_to_have_stopped_a_remote_job(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The server was killed after it had noted the cancellation, and before it cancelled the job: the next one does."""
    engines = {
        "remote": {
            "type": "runpod",
            "base_url": vendor.api,
            "endpoint": ENDPOINT,
            "api_key": vendor.api_key,
            "poll_seconds": 0.02,
        }
    }
    size = {"width": vendor.task.width, "height": vendor.task.height}
    vendor.polls.always = vendor.running
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        request = on_acceptance(image_request(engine="remote", task=size))
        accepted = await GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: vendor.polled > 0)
        server.kill()
    with closing(sqlite3.connect(server.data / "atelier.db")) as db, db:
        db.execute("UPDATE generations SET cancel_requested = 1")
    again = start_server(engines=engines)
    follower = Follower(accepted.generation.id)
    async with aio.insecure_channel(again.address) as channel:
        await follower.follow(GenerationServiceStub(channel))
    ended = follower.events[-1].generation
    assert ended.state == State.STATE_CANCELLED
    assert ended.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
    await eventually(lambda: vendor.cancelled == 1)
    assert vendor.accepted == 1
