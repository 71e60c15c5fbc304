"""What becomes of everything that can go wrong at fal; nothing is paid for twice."""

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from dataclasses import replace

import pytest
from PIL import Image

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
)
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Event, Output, Stage
from atelier_engines.task import SafetyMode
from tests.vendors.fal.asking import TASK, events_of, handle_of_dead, outputs, plain, started
from tests.vendors.fal.stand_in import KEY, NSFW, StandIn

REFUSED = {"detail": [{"loc": ["body"], "msg": "no", "type": "content_policy_violation"}]}
NO_WAY = {"detail": [{"loc": ["body", "image_url"], "msg": "too small", "type": "image_too_small"}]}


def state(status: str, code: int = 202, **fields: object) -> Handler:
    """A poll's answer."""
    return respond(code, {"status": status, **fields})


def png() -> bytes:
    """A picture file."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "busy", [respond(429, {"detail": "concurrent"}), respond(503, "<html>nginx")]
)
async def test_a_full_service_is_asked_again_and_paid_once(vendor: StandIn, busy: Handler) -> None:
    """Too many at once, or a gateway that has nobody behind it, is no failure."""
    vendor.submits.add(busy, busy)
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (respond(401, {"detail": "Invalid key"}), EngineUnavailableError, "key"),
        (
            respond(403, {"detail": "User is locked. Reason: Exhausted balance."}),
            EngineQuotaError,
            "credit",
        ),
        (respond(402, {"detail": "pay"}), EngineQuotaError, "credit"),
        (respond(422, REFUSED), ContentFilteredError, "change the prompt"),
        (respond(422, NO_WAY), InvalidTaskError, "too small"),
        (respond(404, {"detail": "no such app"}), EngineFailedError, "no such app"),
        (respond(429, {}, Retry_After="600"), EngineUnavailableError, "429"),
        (respond(500, "<html>oops"), EngineUncertainError, "not sent again"),
        (respond(504, "<html>oops"), EngineUncertainError, "not sent again"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        (respond(200, {"request_id": "x"}), EngineUncertainError, "not sent again"),
    ],
    ids=range(12),
)
async def test_a_submit_that_fails_is_not_repeated(
    vendor: StandIn, trouble: Handler, error: type[EngineError], says: str
) -> None:
    """What was refused says why; what may have been accepted is uncertain."""
    vendor.submits.add(trouble)
    with pytest.raises(error, match=says):
        await events_of(vendor)
    assert not vendor.jobs, "the honest answer came to a second try"


async def test_a_flagged_picture_is_blocked(vendor: StandIn) -> None:
    """Nobody is given the black one as if it were the result."""
    with pytest.raises(ContentFilteredError, match="flagged"):
        await events_of(vendor, replace(TASK, prompt=NSFW))


async def test_a_flagged_picture_is_delivered_as_such_where_that_is_configured(
    vendor: StandIn,
) -> None:
    """Black, and marked; a caller who wants it blocked has it blocked."""
    events = await events_of(vendor, replace(TASK, prompt=NSFW), safety="flag")
    (output,) = [event for event in events if isinstance(event, Output)]
    assert output.flagged
    with pytest.raises(ContentFilteredError):
        await events_of(
            vendor, replace(TASK, prompt=NSFW, safety_mode=SafetyMode.BLOCK), safety="flag"
        )


async def test_with_safety_off_nothing_is_checked(vendor: StandIn) -> None:
    """The service is told so."""
    events = await events_of(vendor, replace(TASK, prompt=NSFW), safety="off")
    (job,) = vendor.jobs.values()
    assert job.body["enable_safety_checker"] is False
    assert [event.flagged for event in events if isinstance(event, Output)] == [False]


@pytest.mark.parametrize(
    ("result", "error", "says"),
    [
        (respond(422, REFUSED), ContentFilteredError, "change the prompt"),
        (respond(422, NO_WAY), InvalidTaskError, "too small"),
        (
            respond(422, {"detail": [{"msg": "none", "type": "no_media_generated"}]}),
            EngineFailedError,
            "no picture",
        ),
        (respond(499, {"detail": "cancelled"}), EngineFailedError, "cancelled"),
        (respond(404, {"detail": "expired"}), EngineFailedError, "expired"),
        (respond(200, {"images": []}), EngineFailedError, "without a picture"),
        (respond(200, {"images": 3}), EngineFailedError, "unknown shape"),
        (respond(200, "<html>"), EngineFailedError, "unknown shape"),
    ],
    ids=range(8),
)
async def test_a_completed_job_may_have_failed(
    vendor: StandIn, result: Handler, error: type[EngineError], says: str
) -> None:
    """There is no failed state: the result says it."""
    vendor.polls.add(state("COMPLETED", 200))
    vendor.results.add(result)
    with pytest.raises(error, match=says):
        await events_of(vendor)


async def test_a_misfit_is_blamed_on_the_field_of_the_task(vendor: StandIn) -> None:
    """Under its name in our contract."""
    vendor.results.add(respond(422, NO_WAY))
    with pytest.raises(InvalidTaskError) as error:
        await events_of(vendor, replace(TASK, init_image=plain(8, 8, 0)))
    assert error.value.field == "init_image"


@pytest.mark.parametrize("kind", ["runner_disconnected", "generation_timeout", "internal_error"])
async def test_a_job_that_dies_half_way_has_failed(vendor: StandIn, kind: str) -> None:
    """Its state says enough, and another try can do no harm."""
    vendor.polls.add(state("IN_PROGRESS"), state("COMPLETED", 200, error="gone", error_type=kind))
    with pytest.raises(EngineFailedError, match=kind) as error:
        await events_of(vendor)
    assert error.value.repeatable


async def test_a_failed_job_whose_result_is_a_server_error_has_failed(vendor: StandIn) -> None:
    """The status of the model's own answer comes through as that of the result."""
    vendor.polls.add(state("COMPLETED", 200, error="CUDA error"))
    vendor.results.always = respond(500, {"detail": "CUDA error"})
    with pytest.raises(EngineFailedError, match="CUDA error"):
        await events_of(vendor)


async def test_a_failed_job_gives_no_picture(vendor: StandIn) -> None:
    """Whatever its result seems to be."""
    vendor.polls.add(state("COMPLETED", 200, error="half done"))
    vendor.results.add(respond(200, {"images": [{"url": "data:image/png;base64,AA=="}]}))
    with pytest.raises(EngineFailedError, match="half done"):
        await events_of(vendor)


async def test_a_job_that_goes_back_into_the_queue_goes_on(vendor: StandIn) -> None:
    """A lost runner is replaced by the service itself."""
    vendor.polls.add(
        state("IN_PROGRESS"), state("IN_QUEUE", queue_position=0), state("IN_PROGRESS")
    )
    events = await events_of(vendor)
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names[:5] == ["submit", "generate", "queued", "generate", "queued"]
    assert outputs(events)


async def test_faults_between_polls_do_not_lose_a_paid_job(vendor: StandIn) -> None:
    """Not even more of them than one question is repeated, nor a word that nobody knows."""
    bad = [respond(500, "<html>"), respond(502, "<html>"), respond(504), drop_connection]
    garbage = [respond(200, "<html>"), respond(404, {"status": "NOT_FOUND"})]
    vendor.polls.add(*bad, *bad, respond(429, {}), *garbage, state("THINKING"), *garbage)
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


async def test_a_job_that_stays_unknown_is_lost(vendor: StandIn) -> None:
    """It isn't ordered again in silence."""
    vendor.polls.always = respond(404, {"status": "NOT_FOUND"})
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
    assert [job.cancelled for job in vendor.jobs.values()] == [True]


@pytest.mark.parametrize(
    "answer",
    [
        respond(400, {"status": "ALREADY_COMPLETED"}),
        respond(404, {"status": "NOT_FOUND"}),
        respond(200, {"status": "OK"}),
        drop_connection,
    ],
    ids=["completed", "gone", "ok", "dropped"],
)
async def test_a_cancel_that_fails_troubles_nobody(vendor: StandIn, answer: Handler) -> None:
    """Closing is closing."""
    vendor.cancels.always = answer
    async with started(vendor) as engine:
        run = engine.run(TASK)
        for _ in range(3):
            await anext(run)
        await run.aclose()


async def test_cancelling_the_caller_cancels_the_job(vendor: StandIn) -> None:
    """Cancellation comes through as such, after the service was told."""
    vendor.polls.always = state("IN_PROGRESS")
    running = asyncio.Event()

    async def consume() -> list[Event]:
        async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
            async for event in events:
                if event == Stage(name="generate"):
                    running.set()
        return []

    consumer = asyncio.create_task(consume())
    await running.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert [job.cancelled for job in vendor.jobs.values()] == [True]


@pytest.mark.parametrize(
    "trouble",
    [
        respond(404, "<Error>NoSuchKey</Error>"),
        respond(200, {"no": "picture"}),
        respond(200, "<html>"),
        respond_bytes(b"\x89PNG no", "image/png"),
    ],
    ids=["expired", "json", "page", "broken"],
)
async def test_a_picture_that_is_gone_or_none_has_failed(vendor: StandIn, trouble: Handler) -> None:
    """It cannot be had by waiting, and there is no job left to cancel."""
    vendor.downloads.add(trouble)
    with pytest.raises(EngineFailedError):
        await events_of(vendor)
    assert [job.cancels for job in vendor.jobs.values()] == [0]


async def test_a_download_that_breaks_is_taken_up_again(vendor: StandIn) -> None:
    """The picture is there for a while."""
    vendor.downloads.add(cut_short(png(), "image/png"), respond(503))
    assert outputs(await events_of(vendor))
    assert vendor.leaks == 0


async def test_addresses_on_a_foreign_host_never_see_the_key(vendor: StandIn) -> None:
    """The service names them, so they are not believed."""
    foreign = vendor.queue.replace("127.0.0.1", "localhost")
    urls = dict.fromkeys(("status_url", "response_url", "cancel_url"), f"{foreign}/a/b/requests/x")
    vendor.submits.add(respond(200, {"request_id": "x", **urls}))
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await events_of(vendor)


async def test_a_key_that_the_service_repeats_is_not_passed_on(vendor: StandIn) -> None:
    """Not even a wrong one, nor half of it."""
    async with started(vendor, api_key="a-wrong-id:and-secret") as engine:
        with pytest.raises(EngineUnavailableError) as error:
            await engine.check()
    assert "Invalid key" in str(error.value)
    assert "secret" not in str(error.value)


async def test_a_key_in_a_refusal_of_its_own_kind_is_not_passed_on(vendor: StandIn) -> None:
    """Whole or in half."""
    told = f"User of {KEY} is locked, secret {KEY.partition(':')[2]}"
    vendor.submits.add(respond(403, {"detail": told}))
    with pytest.raises(EngineQuotaError, match="locked") as error:
        await events_of(vendor)
    assert KEY.partition(":")[2] not in str(error.value)


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
    assert [job.body["seed"] for job in vendor.jobs.values()] == [3, 4, 5]


async def test_a_restart_after_the_job_has_expired_says_that_it_is_lost(vendor: StandIn) -> None:
    """So does one with a handle that is none."""
    handle = await handle_of_dead(vendor)
    vendor.jobs.clear()
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor, replace(TASK, resume=handle))
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor, replace(TASK, resume="no handle"))
    assert not vendor.jobs
