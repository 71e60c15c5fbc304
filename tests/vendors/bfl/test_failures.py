"""Failures of Black Forest Labs, each translated to an error; nothing is paid twice."""

from __future__ import annotations

import pytest

from atelier_engines.conformance.fake_server import Handler, respond
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import FakeService, collect_events
from atelier_engines.errors import (
    ContentFilteredError,
    EngineFailedError,
    EngineUncertainError,
)
from tests.vendors.bfl.stand_in import StandIn, state
from tests.vendors.calls import failed_submissions, outputs


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor


test_a_submission_that_fails_is_not_repeated = failed_submissions(
    (respond(404, {"message": "no such model"}), EngineFailedError, "no such model"),
    (respond(200, {"name": "?"}), EngineUncertainError, "not sent again"),
)


@pytest.mark.parametrize(
    ("status", "details", "message"),
    [
        ("Request Moderated", {"Moderation Reasons": ["Violence", "Gore"]}, "Violence, Gore"),
        ("Content Moderated", None, "the generated image"),
        ("Task Moderated", ["x"], "x"),
    ],
)
async def test_moderation_is_final(
    vendor: StandIn, status: str, details: object, message: str
) -> None:
    """The error message what was refused and why, and nothing is retried."""
    vendor.polls.add(state("Pending"), state(status, details=details))
    with pytest.raises(ContentFilteredError, match=message):
        await collect_events(vendor)
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize("last", [state("Error", details="GPU fell off"), state("Ready")])
async def test_a_job_that_ends_with_an_error_has_failed(vendor: StandIn, last: Handler) -> None:
    """So has one that is ready without an image."""
    vendor.polls.add(state("Pending", progress=0.5), last)
    with pytest.raises(EngineFailedError):
        await collect_events(vendor)


async def test_a_job_that_a_region_does_not_know_yet_is_polled_on(vendor: StandIn) -> None:
    """The first polls may reach a region that does not know it yet."""
    vendor.polls.add(state("Task not found"), respond(404, {"detail": "Task not found"}))
    assert outputs(await collect_events(vendor))


async def test_an_unknown_status_means_that_the_job_is_running(vendor: StandIn) -> None:
    """The set of statuses has grown before; progress may be out of range."""
    vendor.polls.add(state("Reasoning", progress=7.0), state("Generating", progress=-1))
    assert outputs(await collect_events(vendor))


async def test_a_polling_url_on_another_host_never_receives_the_key(vendor: StandIn) -> None:
    """URLs from the service are checked."""
    foreign = vendor.region.replace("127.0.0.1", "localhost")
    vendor.submit_response = {"polling_url": f"{foreign}/v1/get_result?id=job-0"}
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await collect_events(vendor)
    assert vendor.jobs["job-0"].polls == 0


async def test_a_job_without_a_polling_url_is_polled_by_its_id(vendor: StandIn) -> None:
    """Responses to requests with a webhook have none."""
    vendor.submit_response = {"polling_url": None, "status": "Pending", "webhook_url": "https://x"}
    assert outputs(await collect_events(vendor))
