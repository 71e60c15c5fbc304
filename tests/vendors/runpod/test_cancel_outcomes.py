"""What becomes of a job at RunPod whose run is closed."""

from __future__ import annotations

from atelier_engines.closing import Stop
from tests.vendors.calls import at_stage, stop_when
from tests.vendors.runpod.stand_in import StandIn


async def test_a_job_in_the_queue_never_starts(vendor: StandIn) -> None:
    """No worker has had it."""
    assert await stop_when(vendor, at_stage("queued")) is Stop.NEVER_STARTED


async def test_a_job_that_a_worker_has_may_go_on(vendor: StandIn) -> None:
    """Although the service says CANCELLED."""
    assert await stop_when(vendor, at_stage("generate")) is Stop.MAY_GO_ON
