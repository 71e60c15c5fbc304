"""What becomes of a request at fal whose run is closed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import pytest
from aiohttp import web

from atelier_engines.closing import Closing, Stop, announce
from atelier_engines.conformance.fake_server import Handler, respond
from atelier_engines.conformance.remote_service import run_engine
from tests.vendors.calls import at_stage, stop_when
from tests.vendors.fal.stand_in import StandIn


@pytest.mark.parametrize(
    ("answer", "stop"),
    [
        (respond(200, {"status": "OK"}), Stop.NEVER_STARTED),
        (respond(202, {"status": "CANCELLATION_REQUESTED"}), Stop.MAY_GO_ON),
        (respond(400, {"status": "ALREADY_COMPLETED"}), Stop.MAY_GO_ON),
    ],
)
async def test_the_answer_to_a_cancellation_decides(
    vendor: StandIn, answer: Handler, stop: Stop
) -> None:
    """OK says that it was taken out of the queue; a request to the runner may be ignored."""
    vendor.cancels.always = answer
    assert await stop_when(vendor, at_stage("queued")) is stop


async def test_a_runner_that_stops_is_believed(vendor: StandIn) -> None:
    """Its status then says that the client has cancelled it."""
    assert await stop_when(vendor, at_stage("generate")) is Stop.STOPPED


async def test_a_request_that_has_ended_may_be_billed_without_its_image(vendor: StandIn) -> None:
    """The caller hangs up while the result is fetched: nothing is left to be cancelled, and the work was done."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    async def slow(_: web.Request) -> web.StreamResponse:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.sleep(60)
        return web.Response()

    vendor.results.always = slow
    closing = Closing()

    async def run() -> None:
        announce(closing)
        async with run_engine(vendor) as engine, aclosing(engine.run(vendor.task)) as events:
            async for _ in events:
                pass

    running = asyncio.create_task(run())
    await asked.wait()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert (vendor.cancelled, closing.stop) == (0, Stop.ENDED)
    assert closing.left
