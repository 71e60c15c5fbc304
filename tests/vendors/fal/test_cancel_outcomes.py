"""What becomes of a request at fal whose run is closed."""

from __future__ import annotations

import pytest

from atelier_engines.closing import Stop
from atelier_engines.conformance.fake_server import Handler, respond
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
