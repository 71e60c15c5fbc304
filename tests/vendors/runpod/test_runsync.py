"""Jobs whose submission is answered with their end, and jobs that are polled too often."""

from __future__ import annotations

import pytest

from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import collect_events
from atelier_engines.errors import EngineFailedError, EngineTimeoutError
from tests.vendors.calls import outputs
from tests.vendors.runpod.stand_in import StandIn


async def test_the_answer_of_the_submission_is_the_result(vendor: StandIn) -> None:
    """It is used at once: no poll is sent, of a job that the service keeps for a minute."""
    vendor.polls.add(respond(404, {"error": "job not found"}))
    (image,) = outputs(await collect_events(vendor, sync_wait_seconds=2))
    (job,) = vendor.jobs.values()
    assert image.data == vendor.drawn(job)
    assert job.polls == 0


async def test_a_job_that_outlasts_the_submission_is_polled(vendor: StandIn) -> None:
    """Under the id of the answer."""
    vendor.shape = "slow"
    (image,) = outputs(await collect_events(vendor, sync_wait_seconds=1))
    ((job_id, job),) = vendor.jobs.items()
    assert job_id.startswith("sync-")
    assert (image.data, job.polls) == (vendor.drawn(job), 5)


async def test_a_failure_in_the_answer_is_a_failure(vendor: StandIn) -> None:
    """With the worker's message."""
    failed = {"id": "sync-1", "status": "FAILED", "error": "the disk is full"}
    vendor.submits.add(respond(200, failed))
    with pytest.raises(EngineFailedError, match="the disk is full"):
        await collect_events(vendor, sync_wait_seconds=2)


async def test_a_job_is_given_up_after_so_many_polls(vendor: StandIn) -> None:
    """It is cancelled, as after the deadline; one that ends in time is not."""
    with pytest.raises(EngineTimeoutError, match="has not ended after 3 polls"):
        await collect_events(vendor, max_polls=3)
    (job,) = vendor.jobs.values()
    assert job.cancelled
    assert outputs(await collect_events(vendor, max_polls=5))


async def test_an_error_within_the_results_is_told(vendor: StandIn) -> None:
    """Where there is no image."""
    output = {"job_results": {"status": "error", "message": "out of memory"}}
    vendor.polls.add(respond(200, {"id": "x", "status": "COMPLETED", "output": output}))
    with pytest.raises(Exception, match="request a smaller image"):
        await collect_events(vendor)
