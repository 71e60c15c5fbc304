"""A real server is killed while InvokeAI runs its task."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.invokeai.stand_in import StandIn
from tests.vendors.killed_server import kill_while_a_job_runs
from tests.vendors.stopped_server import stop_while_a_job_runs


async def test_a_killed_server_finds_its_batch_and_submits_nothing_again(
    vendor: StandIn, start_server: StartServer
) -> None:
    """The next process continues with the batch, which nothing has cancelled."""
    await kill_while_a_job_runs(vendor, start_server, {"type": "invokeai", "base_url": vendor.api})
    assert not vendor.cancelled


async def test_a_server_that_is_told_to_stop_leaves_its_job_to_the_next_one(
    vendor: StandIn, start_server: StartServer
) -> None:
    """As one that is killed."""
    engine = {"type": "invokeai", "base_url": vendor.api}
    await stop_while_a_job_runs(vendor, start_server, engine)
