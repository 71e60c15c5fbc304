"""What becomes of everything that can go wrong at RunPod; nothing is paid for twice."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
)
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.event import Output, Stage
from tests.vendors.runpod.asking import TASK, events_of, handle_of_dead, outputs, started
from tests.vendors.runpod.stand_in import KEY, StandIn

TRACEBACK = "Traceback (most recent call last): secret.py"


def state(status: str, **fields: object) -> Handler:
    """A poll's answer."""
    return respond(200, {"id": "x", "status": status, **fields})


async def test_a_full_service_is_asked_again_and_paid_once(vendor: StandIn) -> None:
    """Too many requests is no failure."""
    vendor.submits.add(respond(429, {}), respond(429, {}, Retry_After="1"))
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (respond(401, {"error": "bad key"}), EngineUnavailableError, "key"),
        (respond(402, {"error": "balance"}), EngineQuotaError, "credit"),
        (respond(404, {"error": "endpoint not found"}), EngineFailedError, "endpoint"),
        (respond(400, {"error": "bad input"}), InvalidTaskError, "bad input"),
        (respond(413, "<html>"), InvalidTaskError, "413"),
        (respond(429, {}, Retry_After="600"), EngineUnavailableError, "429"),
        (respond(500, "<html>oops"), EngineUncertainError, "not sent again"),
        (respond(502, "<html>oops"), EngineUncertainError, "not sent again"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        (respond(200, {"id": "a/../b"}), EngineUncertainError, "not sent again"),
    ],
    ids=range(11),
)
async def test_a_submit_that_fails_is_not_repeated(
    vendor: StandIn, trouble: Handler, error: type[EngineError], says: str
) -> None:
    """What was refused says why; what may have been accepted is uncertain."""
    vendor.submits.add(trouble)
    with pytest.raises(error, match=says):
        await events_of(vendor)
    assert not vendor.jobs, "the honest answer came to a second try"


@pytest.mark.parametrize(
    ("fields", "error", "says"),
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
    vendor: StandIn, fields: dict[str, object], error: type[EngineError], says: str
) -> None:
    """In the worker's words, but without its traceback."""
    vendor.polls.add(state("IN_PROGRESS"), state("FAILED", **fields))
    with pytest.raises(error, match=says) as raised:
        await events_of(vendor)
    assert TRACEBACK not in str(raised.value)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (None, "no picture"),
        ({"status": "success_no_images", "images": []}, "SaveImage"),
        ({"message": "it broke", "status": "error"}, "it broke"),
        ({"images": [], "errors": ["it broke"]}, "it broke"),
        ({"images": 3}, "unknown shape"),
        ("words", "unknown shape"),
        ({"images": [{"data": "not base64!"}]}, "cannot be decoded"),
        ({"images": [{"data": "iVBORw0KGgo="}]}, "cannot be decoded"),
    ],
    ids=range(8),
)
async def test_a_completed_job_without_a_picture_has_failed(
    vendor: StandIn, output: object, says: str
) -> None:
    """Whatever stands in its place."""
    vendor.polls.add(state("COMPLETED", **({} if output is None else {"output": output})))
    with pytest.raises(EngineFailedError, match=says):
        await events_of(vendor)


async def test_a_job_that_ran_for_too_long_is_out_of_time(vendor: StandIn) -> None:
    """By the service's own clock."""
    vendor.polls.add(state("TIMED_OUT"))
    with pytest.raises(EngineTimeoutError):
        await events_of(vendor)


async def test_a_job_that_others_cancel_has_failed(vendor: StandIn) -> None:
    """In the service's console, or by emptying the queue."""
    vendor.polls.add(state("CANCELLED"))
    with pytest.raises(EngineFailedError, match="cancelled"):
        await events_of(vendor)


async def test_a_job_that_goes_back_into_the_queue_goes_on(vendor: StandIn) -> None:
    """A lost worker is replaced; running and unknown states go on too."""
    vendor.polls.add(state("RUNNING"), state("IN_QUEUE", retries=1), state("PONDERING"))
    events = await events_of(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names == ["submit", "generate", "queued", "generate", "queued", "generate"]
    assert outputs(events)


async def test_faults_between_polls_do_not_lose_a_paid_job(vendor: StandIn) -> None:
    """Not even more of them than one question is repeated."""
    bad = [respond(500, "<html>"), respond(502, "<html>"), respond(504), drop_connection]
    garbage = [respond(200, "<html>"), respond(404, {})]
    vendor.polls.add(*bad, *bad, respond(429, {}), *garbage, state("IN_PROGRESS"), *garbage)
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


async def test_a_job_that_stays_unknown_is_lost(vendor: StandIn) -> None:
    """When its time to live is over it vanishes, even while it runs."""
    vendor.polls.always = respond(404, {})
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor)
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize("for_ever", [state("IN_PROGRESS"), respond(503), hang, drip])
async def test_a_job_that_never_ends_meets_the_deadline_and_is_cancelled(
    vendor: StandIn, for_ever: Handler
) -> None:
    """The error allows no other engine to be paid too."""
    vendor.polls.always = for_ever
    with pytest.raises(EngineTimeoutError) as error:
        await events_of(vendor, timeout_seconds=0.2)
    assert not error.value.repeatable
    assert [job.cancels for job in vendor.jobs.values()] == [1]


async def test_a_job_that_no_worker_takes_says_how_the_workers_are(vendor: StandIn) -> None:
    """So that the owner of the endpoint knows what to change."""
    vendor.polls.always = state("IN_QUEUE")
    vendor.workers = {"idle": 0, "running": 0, "throttled": 3}
    with pytest.raises(EngineTimeoutError, match="3 throttled"):
        await events_of(vendor, timeout_seconds=0.2)
    assert [job.cancels for job in vendor.jobs.values()] == [1]


@pytest.mark.parametrize("answer", [respond(404, {}), respond(500), drop_connection])
async def test_a_cancel_that_fails_troubles_nobody(vendor: StandIn, answer: Handler) -> None:
    """Closing is closing."""
    vendor.cancels.always = answer
    async with started(vendor) as engine:
        run = engine.run(TASK)
        for _ in range(3):
            await anext(run)
        await run.aclose()
    assert all(job.cancels for job in vendor.jobs.values())


async def test_cancelling_the_caller_cancels_the_job(vendor: StandIn) -> None:
    """Cancellation comes through as such, after the service was told."""
    vendor.polls.always = state("IN_PROGRESS")
    running = asyncio.Event()

    async def consume() -> None:
        async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
            async for event in events:
                if event == Stage(name="generate"):
                    running.set()

    consumer = asyncio.create_task(consume())
    await running.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert [job.cancels for job in vendor.jobs.values()] == [1]


@pytest.mark.parametrize(
    "trouble",
    [respond(403, "<Error>expired"), respond(404, "<Error>"), respond(200, "<html>")],
    ids=["expired", "gone", "page"],
)
async def test_a_picture_that_is_gone_or_none_has_failed(vendor: StandIn, trouble: Handler) -> None:
    """It cannot be had by waiting, and there is no job left to cancel."""
    vendor.shape = "s3"
    vendor.downloads.add(trouble)
    with pytest.raises(EngineFailedError):
        await events_of(vendor)
    assert [job.cancels for job in vendor.jobs.values()] == [0]


async def test_a_download_that_breaks_is_taken_up_again(vendor: StandIn) -> None:
    """The link works for days."""
    vendor.shape = "s3"
    vendor.downloads.add(cut_short(b"x" * 1000, "image/png"), respond(503))
    assert outputs(await events_of(vendor))


async def test_a_key_that_the_service_repeats_is_not_passed_on(vendor: StandIn) -> None:
    """Not even a wrong one."""
    async with started(vendor, api_key="a-wrong-key") as engine:
        with pytest.raises(EngineUnavailableError) as error:
            await engine.check()
    assert "is no key" in str(error.value)
    assert "a-wrong-key" not in str(error.value)


async def test_a_restart_finds_the_job_and_pays_nothing(vendor: StandIn) -> None:
    """The new process has the handle alone."""
    handle = await handle_of_dead(vendor)
    assert outputs(await events_of(vendor, replace(TASK, resume=handle)))
    assert len(vendor.jobs) == 1
    assert KEY not in handle


async def test_a_restart_between_two_submits_orders_only_what_is_missing(vendor: StandIn) -> None:
    """Two of three jobs had been accepted."""
    task = replace(TASK, seeds=(3, 4, 5))
    handle = await handle_of_dead(vendor, task, accepted=2)
    events = await events_of(vendor, replace(task, resume=handle))
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 4, 5]
    assert len(vendor.jobs) == 3


@pytest.mark.parametrize("bad", ["no handle", '{"jobs": [{"id": "../purge-queue"}]}'])
async def test_a_restart_after_the_job_has_expired_says_that_it_is_lost(
    vendor: StandIn, bad: str
) -> None:
    """So does one with a handle that is none."""
    handle = await handle_of_dead(vendor)
    vendor.jobs.clear()
    for resume in (handle, bad):
        with pytest.raises(EngineFailedError, match="lost"):
            await events_of(vendor, replace(TASK, resume=resume))
    assert not vendor.jobs
