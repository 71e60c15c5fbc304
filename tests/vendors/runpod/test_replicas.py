"""Several endpoints as one engine: a job is polled, found again and cancelled where it was ordered."""

from __future__ import annotations

from tests.conftest import StartServer
from tests.vendors.killed_server import kill_while_a_job_is_cancelled, kill_while_a_job_runs
from tests.vendors.runpod.stand_in import ENDPOINT, FURTHER_ENDPOINT, StandIn


async def test_a_killed_server_finds_a_job_at_the_endpoint_that_has_it(
    vendor: StandIn, start_server: StartServer
) -> None:
    """Each endpoint knows its own jobs alone; the order of the replicas has changed meanwhile."""
    replicas = [FURTHER_ENDPOINT, ENDPOINT]
    engine = {"type": "runpod", "base_url": vendor.api, "replicas": replicas}
    await kill_while_a_job_runs(
        vendor, start_server, engine, then={"replicas": [*reversed(replicas)]}
    )
    assert [*vendor.endpoints.values()] == [FURTHER_ENDPOINT]


async def test_a_job_is_cancelled_at_the_endpoint_that_has_it(
    vendor: StandIn, start_server: StartServer
) -> None:
    """By the next process."""
    replicas = [FURTHER_ENDPOINT, ENDPOINT]
    engine = {"type": "runpod", "base_url": vendor.api, "replicas": replicas}
    await kill_while_a_job_is_cancelled(vendor, start_server, engine)
