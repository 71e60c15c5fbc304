"""What becomes of everything that can go wrong at Black Forest Labs; nothing is paid for twice."""

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
    ("status", "details", "says"),
    [
        ("Request Moderated", {"Moderation Reasons": ["Violence", "Gore"]}, "Violence, Gore"),
        ("Content Moderated", None, "the generated image"),
        ("Task Moderated", ["x"], "x"),
    ],
)
async def test_moderation_is_final(
    vendor: StandIn, status: str, details: object, says: str
) -> None:
    """It says what was refused and why, and nothing is tried again."""
    vendor.polls.add(state("Pending"), state(status, details=details))
    with pytest.raises(ContentFilteredError, match=says):
        await collect_events(vendor)
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize("last", [state("Error", details="GPU fell off"), state("Ready")])
async def test_a_job_that_dies_half_way_has_failed(vendor: StandIn, last: Handler) -> None:
    """Also one that is ready without a picture."""
    vendor.polls.add(state("Pending", progress=0.5), last)
    with pytest.raises(EngineFailedError):
        await collect_events(vendor)


async def test_a_job_that_is_not_yet_known_everywhere_is_waited_for(vendor: StandIn) -> None:
    """The first polls may ask a region that has not heard of it."""
    vendor.polls.add(state("Task not found"), respond(404, {"detail": "Task not found"}))
    assert outputs(await collect_events(vendor))


async def test_an_unknown_status_means_that_the_job_goes_on(vendor: StandIn) -> None:
    """The set of statuses has grown before; progress may be nonsense."""
    vendor.polls.add(state("Reasoning", progress=7.0), state("Generating", progress=-1))
    assert outputs(await collect_events(vendor))


async def test_a_polling_address_on_a_foreign_host_never_sees_the_key(vendor: StandIn) -> None:
    """The service names it, so it is not believed."""
    foreign = vendor.region.replace("127.0.0.1", "localhost")
    vendor.submit_response = {"polling_url": f"{foreign}/v1/get_result?id=job-0"}
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await collect_events(vendor)
    assert vendor.jobs["job-0"].polls == 0


async def test_an_answer_without_polling_address_is_found_by_its_id(vendor: StandIn) -> None:
    """As those to requests with a webhook are."""
    vendor.submit_response = {"polling_url": None, "status": "Pending", "webhook_url": "https://x"}
    assert outputs(await collect_events(vendor))
