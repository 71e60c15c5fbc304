"""What becomes of a prediction whose run is closed."""

from __future__ import annotations

from atelier_engines.closing import Stop
from atelier_engines.event import Event
from tests.vendors.calls import at_stage, stop_when
from tests.vendors.replicate.stand_in import StandIn


async def test_a_prediction_that_was_not_begun_never_starts(vendor: StandIn) -> None:
    """It has no start time, and is not billed."""

    def stays_at_its_start(event: Event) -> bool:
        for job in vendor.jobs.values():
            job.polls = 0
        return at_stage("queued")(event)

    assert await stop_when(vendor, stays_at_its_start) is Stop.NEVER_STARTED


async def test_a_running_prediction_is_stopped(vendor: StandIn) -> None:
    """What ran until then is billed."""
    assert await stop_when(vendor, at_stage("generate")) is Stop.STOPPED
