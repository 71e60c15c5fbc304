"""Failures of fal, each translated to an error; nothing is paid twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import Handler, respond
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import FakeService, collect_events
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUncertainError,
    InvalidTaskError,
    JobStoppedError,
    TaskFailedError,
)
from atelier_engines.event import Output, Stage
from atelier_engines.task import SafetyMode
from tests.vendors.calls import failed_submissions, outputs, plain
from tests.vendors.fal.stand_in import KEY, NSFW, TASK, StandIn, state

REFUSED = {"detail": [{"loc": ["body"], "msg": "no", "type": "content_policy_violation"}]}
NO_WAY = {"detail": [{"loc": ["body", "image_url"], "msg": "too small", "type": "image_too_small"}]}


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor


test_a_submission_that_fails_is_not_repeated = failed_submissions(
    (
        respond(403, {"detail": "User is locked. Reason: Exhausted balance."}),
        EngineQuotaError,
        "credit",
    ),
    (respond(422, REFUSED), ContentFilteredError, "change the prompt"),
    (respond(422, NO_WAY), InvalidTaskError, "too small"),
    (respond(404, {"detail": "no such app"}), EngineFailedError, "no such app"),
    (respond(200, {"request_id": "x"}), EngineUncertainError, "not sent again"),
)


async def test_a_flagged_image_is_blocked(vendor: StandIn) -> None:
    """The black image is not returned as a result."""
    with pytest.raises(ContentFilteredError, match="flagged"):
        await collect_events(vendor, replace(TASK, prompt=NSFW))


async def test_a_flagged_image_is_returned_as_such_if_so_configured(
    vendor: StandIn,
) -> None:
    """Black, and flagged; a request can still have it blocked."""
    events = await collect_events(vendor, replace(TASK, prompt=NSFW), safety="flag")
    (output,) = [event for event in events if isinstance(event, Output)]
    assert output.flagged
    with pytest.raises(ContentFilteredError):
        await collect_events(
            vendor, replace(TASK, prompt=NSFW, safety_mode=SafetyMode.BLOCK), safety="flag"
        )


async def test_with_safety_off_nothing_is_checked(vendor: StandIn) -> None:
    """The request disables the check."""
    events = await collect_events(vendor, replace(TASK, prompt=NSFW), safety="off")
    (job,) = vendor.jobs.values()
    assert job.body["enable_safety_checker"] is False
    assert [event.flagged for event in events if isinstance(event, Output)] == [False]


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (respond(422, REFUSED), ContentFilteredError, "change the prompt"),
        (respond(422, NO_WAY), InvalidTaskError, "too small"),
        (
            respond(422, {"detail": [{"msg": "none", "type": "no_media_generated"}]}),
            TaskFailedError,
            "no image",
        ),
        (respond(499, {"detail": "cancelled"}), JobStoppedError, "cancelled"),
        (respond(404, {"detail": "expired"}), EngineFailedError, "expired"),
        (respond(200, {"images": []}), EngineFailedError, "without an image"),
        (respond(200, {"images": 3}), EngineFailedError, "unknown shape"),
        (respond(200, "<html>"), EngineFailedError, "unknown shape"),
    ],
    ids=range(8),
)
async def test_a_completed_job_may_have_failed(
    vendor: StandIn, result: Handler, error: type[EngineError], message: str
) -> None:
    """There is no failed status: the result has the error."""
    vendor.polls.add(state("COMPLETED", 200))
    vendor.results.add(result)
    with pytest.raises(error, match=message):
        await collect_events(vendor)


async def test_a_validation_error_names_the_field_of_the_task(vendor: StandIn) -> None:
    """By its name in our contract."""
    vendor.results.add(respond(422, NO_WAY))
    with pytest.raises(InvalidTaskError) as error:
        await collect_events(vendor, replace(TASK, init_image=plain(8, 8, 0)))
    assert error.value.field == "init_image"


@pytest.mark.parametrize("kind", ["runner_disconnected", "generation_timeout", "internal_error"])
async def test_a_job_that_ends_with_an_error_has_failed(vendor: StandIn, kind: str) -> None:
    """Its status has the reason, and another engine may be tried."""
    vendor.polls.add(state("IN_PROGRESS"), state("COMPLETED", 200, error="gone", error_type=kind))
    with pytest.raises(EngineFailedError, match=kind) as error:
        await collect_events(vendor)
    assert error.value.repeatable


async def test_a_failed_job_whose_result_is_a_server_error_has_failed(vendor: StandIn) -> None:
    """The HTTP status of the model becomes that of the result."""
    vendor.polls.add(state("COMPLETED", 200, error="CUDA error"))
    vendor.results.always = respond(500, {"detail": "CUDA error"})
    with pytest.raises(EngineFailedError, match="CUDA error"):
        await collect_events(vendor)


async def test_a_failed_job_returns_no_image(vendor: StandIn) -> None:
    """Whatever its result contains."""
    vendor.polls.add(state("COMPLETED", 200, error="half done"))
    vendor.results.add(respond(200, {"images": [{"url": "data:image/png;base64,AA=="}]}))
    with pytest.raises(EngineFailedError, match="half done"):
        await collect_events(vendor)


async def test_a_job_that_goes_back_into_the_queue_is_polled_on(vendor: StandIn) -> None:
    """The service itself replaces a lost runner."""
    vendor.polls.add(
        state("IN_PROGRESS"), state("IN_QUEUE", queue_position=0), state("IN_PROGRESS")
    )
    events = await collect_events(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names[:5] == ["submit", "generate", "queued", "generate", "queued"]
    assert outputs(events)


async def test_urls_on_another_host_never_receive_the_key(vendor: StandIn) -> None:
    """URLs from the service are checked."""
    foreign = vendor.queue.replace("127.0.0.1", "localhost")
    urls = dict.fromkeys(("status_url", "response_url", "cancel_url"), f"{foreign}/a/b/requests/x")
    vendor.submits.add(respond(200, {"request_id": "x", **urls}))
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await collect_events(vendor)


async def test_a_key_in_an_error_of_its_own_kind_is_masked(vendor: StandIn) -> None:
    """The whole key and each half of it."""
    told = f"User of {KEY} is locked, secret {KEY.partition(':')[2]}"
    vendor.submits.add(respond(403, {"detail": told}))
    with pytest.raises(EngineQuotaError, match="locked") as error:
        await collect_events(vendor)
    assert KEY.partition(":")[2] not in str(error.value)
