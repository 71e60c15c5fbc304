"""A server that is killed while a job runs at fal finds it again, and pays once."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.fal.stand_in import StandIn
from tests.vendors.killed_server import kill_while_a_job_runs


async def test_a_killed_server_finds_its_job_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The job is not submitted a second time."""
    engine = {"type": "fal", "base_url": vendor.queue}
    await kill_while_a_job_runs(vendor, start_server, engine)
