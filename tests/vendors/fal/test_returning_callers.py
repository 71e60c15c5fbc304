"""A caller who is lost when a job has ended at fal, or was stopped there, and who comes back: it is paid once."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from grpc import aio

from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.conformance.fake_server import drop_connection
from tests.conftest import RunningServer, StartServer
from tests.server.calls import eventually, image_request
from tests.vendors.fal.stand_in import StandIn
from tests.vendors.killed_server import note_lost_callers, wait_cancelled

_PRICE = 0.25


class _HeldDownloads:
    """Answers no download, and counts them."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        await asyncio.sleep(600)
        return web.Response()


@pytest.mark.parametrize("killed", [False, True])
async def test_a_result_whose_caller_was_lost_is_fetched_for_the_one_who_comes_back(
    vendor: StandIn, start_server: StartServer, *, killed: bool
) -> None:
    """The job had ended: it is not ordered again, also not by the next server."""
    server, request = _start(vendor, start_server), _request(vendor)
    await _lose_at_download(vendor, server, request)
    if killed:
        server.kill()
        server = _start(vendor, start_server)
    vendor.downloads.clear()
    _require_paid_once(await _generate(server, request))
    assert vendor.accepted == 1


async def test_a_result_for_lost_callers_is_kept_by_the_next_server(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The first was killed when it had noted that they are lost, and had not cancelled the generation."""
    held = vendor.downloads.always = _HeldDownloads()
    server, request = _start(vendor, start_server), _request(vendor)
    async with aio.insecure_channel(server.address) as channel:
        call = GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: held.asked > 0)
        server.kill()
        call.cancel()
    note_lost_callers(server)
    vendor.downloads.clear()
    _require_paid_once(await _generate(_start(vendor, start_server), request))
    assert vendor.accepted == 1


async def test_a_job_that_was_stopped_before_the_server_was_killed_is_not_awaited(
    vendor: StandIn, start_server: StartServer
) -> None:
    """No record says so: the next server learns it from the service, and whoever asks again gets another job."""
    vendor.polls.always = vendor.running
    server, request = _start(vendor, start_server), _request(vendor)
    async with aio.insecure_channel(server.address) as channel:
        call = GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: vendor.polled > 0)
        server.kill()
        call.cancel()
    note_lost_callers(server)
    vendor.polls.clear()
    vendor.stop_jobs()
    again = _start(vendor, start_server)
    _require_paid_once(await _generate(again, request))
    assert (vendor.accepted, vendor.billed) == (2, 1)
    assert "remote_job_not_cancelled" not in again.log.read_text()


async def test_a_job_that_may_go_on_is_continued(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The request to cancel it was not answered, and it was not stopped."""
    vendor.polls.always, vendor.cancels.always = vendor.running, drop_connection
    server, request = _start(vendor, start_server), _request(vendor)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        call = stub.Generate(request)
        await eventually(lambda: vendor.polled > 0)
        call.cancel()
        await wait_cancelled(stub)
        vendor.polls.clear()
        _require_paid_once((await stub.Generate(request)).generation)
    assert vendor.accepted == 1


async def _lose_at_download(
    vendor: StandIn, server: RunningServer, request: GenerateRequest
) -> None:
    held = vendor.downloads.always = _HeldDownloads()
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        call = stub.Generate(request)
        await eventually(lambda: held.asked > 0)
        call.cancel()
        await wait_cancelled(stub)


async def _generate(server: RunningServer, request: GenerateRequest) -> Generation:
    async with aio.insecure_channel(server.address) as channel:
        return (await GenerationServiceStub(channel).Generate(request)).generation


def _require_paid_once(made: Generation) -> None:
    assert made.state == State.STATE_SUCCEEDED
    assert [attempt.number for attempt in made.receipt.attempts] == [1, 2]
    assert made.receipt.cost.amount == _PRICE


def _start(vendor: StandIn, start_server: StartServer) -> RunningServer:
    service = {"type": "fal", "base_url": vendor.queue, "api_key": vendor.api_key}
    price = {"amount": _PRICE, "unit": "image"}
    return start_server(engines={"remote": {**service, "poll_seconds": 0.02, "price": price}})


def _request(vendor: StandIn) -> GenerateRequest:
    size = {"width": vendor.task.width, "height": vendor.task.height}
    return image_request(engine="remote", task=size, request_id="lost")
