"""Failures of RunPod, each translated to an error; nothing is paid twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import FakeService, collect_events, crash
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.event import Stage
from tests.vendors.calls import failed_submissions, outputs
from tests.vendors.runpod.stand_in import TASK, StandIn, state

TRACEBACK = "Traceback (most recent call last): secret.py"


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """The fake service with images in a bucket."""
        vendor.shape = "s3"
        return vendor


test_a_submission_that_fails_is_not_repeated = failed_submissions(
    (respond(404, {"error": "endpoint not found"}), EngineFailedError, "endpoint"),
    (respond(200, {"id": "a/../b"}), EngineUncertainError, "not sent again"),
)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"error": "ComfyUI server (127.0.0.1:8188) not reachable"},
            EngineUnavailableError,
            "again",
        ),
        ({"error": "WebSocket communication error: x"}, EngineUnavailableError, "WebSocket"),
        ({"error": "Prompt outputs failed validation:\n• Node 4"}, InvalidTaskError, "• Node 4"),
        ({"error": "Missing 'workflow' parameter"}, InvalidTaskError, "workflow"),
        (
            {"error": "Workflow validation failed: ckpt_name 'x' not in list"},
            ModelMissingError,
            "endpoint",
        ),
        (
            {
                "error": "Job processing failed",
                "output": {"details": ["Workflow execution error: torch.OutOfMemoryError"]},
            },
            OutOfMemoryError,
            "smaller",
        ),
        (
            {
                "error": json.dumps(
                    {
                        "error_type": "<class 'KeyError'>",
                        "error_message": "'images'",
                        "error_traceback": TRACEBACK,
                    }
                )
            },
            EngineFailedError,
            "KeyError.*images",
        ),
        ({}, EngineFailedError, "worker failed"),
    ],
    ids=range(8),
)
async def test_a_failed_job_says_why(
    vendor: StandIn, fields: dict[str, object], error: type[EngineError], message: str
) -> None:
    """With the worker's message, but without its traceback."""
    vendor.polls.add(state("IN_PROGRESS"), state("FAILED", **fields))
    with pytest.raises(error, match=message) as raised:
        await collect_events(vendor)
    assert TRACEBACK not in str(raised.value)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "no image"),
        ({"status": "success_no_images", "images": []}, "SaveImage"),
        ({"message": "it broke", "status": "error"}, "it broke"),
        ({"images": [], "errors": ["it broke"]}, "it broke"),
        ({"images": 3}, "no image"),
        ("words", "cannot be decoded"),
        ({"images": [{"data": "not base64!"}]}, "cannot be decoded"),
        ({"images": [{"data": "iVBORw0KGgo="}]}, "cannot be decoded"),
    ],
    ids=range(8),
)
async def test_a_completed_job_without_an_image_has_failed(
    vendor: StandIn, output: object, message: str
) -> None:
    """Whatever its output contains instead."""
    vendor.polls.add(state("COMPLETED", **({} if output is None else {"output": output})))
    with pytest.raises(EngineFailedError, match=message):
        await collect_events(vendor)


async def test_a_job_that_exceeded_the_services_time_limit_has_timed_out(vendor: StandIn) -> None:
    """By the status TIMED_OUT."""
    vendor.polls.add(state("TIMED_OUT"))
    with pytest.raises(EngineTimeoutError):
        await collect_events(vendor)


async def test_a_job_that_was_cancelled_elsewhere_has_failed(vendor: StandIn) -> None:
    """In the console, or by purging the queue."""
    vendor.polls.add(state("CANCELLED"))
    with pytest.raises(JobStoppedError, match="cancelled"):
        await collect_events(vendor)


async def test_a_job_that_goes_back_into_the_queue_is_polled_on(vendor: StandIn) -> None:
    """A lost worker is replaced; RUNNING and unknown statuses are polled on too."""
    vendor.polls.add(state("RUNNING"), state("IN_QUEUE", retries=1), state("PONDERING"))
    events = await collect_events(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names == ["submit", "generate", "queued", "generate", "queued", "generate"]
    assert outputs(events)


async def test_a_job_that_no_worker_takes_reports_the_workers(vendor: StandIn) -> None:
    """So that the operator knows what to change."""
    vendor.polls.always = state("IN_QUEUE")
    vendor.workers = {"idle": 0, "running": 0, "throttled": 3}
    with pytest.raises(EngineTimeoutError, match="3 throttled"):
        await collect_events(vendor, timeout_seconds=0.2)
    assert [job.cancels for job in vendor.jobs.values()] == [1]


@pytest.mark.parametrize("bad", ["no handle", '{"jobs": [{"id": "../purge-queue"}]}'])
async def test_a_restart_after_the_job_has_expired_says_that_it_is_lost(
    vendor: StandIn, bad: str
) -> None:
    """So does one with an invalid handle."""
    handle = await crash(vendor)
    vendor.jobs.clear()
    for resume in (handle, bad):
        with pytest.raises(EngineFailedError, match="lost"):
            await collect_events(vendor, replace(TASK, resume=resume))
    assert not vendor.jobs
