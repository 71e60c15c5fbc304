"""A server that is killed while a job runs at RunPod finds it again, and pays once."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.killed_server import kill_while_a_job_runs
from tests.vendors.runpod.stand_in import ENDPOINT, StandIn


async def test_a_killed_server_finds_its_job_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The job is not submitted a second time."""
    engine = {"type": "runpod", "base_url": vendor.api, "endpoint": ENDPOINT}
    await kill_while_a_job_runs(vendor, start_server, engine)
