"""What becomes of everything that can go wrong at Black Forest Labs; nothing is paid for twice."""

from __future__ import annotations

import io
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
from atelier_engines.event import Output
from tests.vendors.bfl.asking import TASK, events_of, handle_of_dead, outputs, started
from tests.vendors.bfl.stand_in import KEY, StandIn


def state(status: str, **fields: object) -> Handler:
    """A poll's answer."""
    return respond(200, {"id": "job-0", "status": status, "result": None, **fields})


def png(side: int = 64) -> bytes:
    """A picture file."""
    file = io.BytesIO()
    Image.effect_noise((side, side), 50).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "1"}], ids=["silent", "retry-after"])
async def test_a_full_service_is_asked_again_and_paid_once(
    vendor: StandIn, headers: dict[str, str]
) -> None:
    """Too many jobs at once is no failure."""
    busy = respond(429, {"detail": "too many active tasks"}, **headers)
    vendor.submits.add(busy, busy)
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (respond(402, {"detail": "Insufficient credits"}), EngineQuotaError, "credit"),
        (respond(403, {"detail": "Not authenticated"}), EngineUnavailableError, "key"),
        (respond(422, {"detail": [{"msg": "bad width"}]}), InvalidTaskError, "bad width"),
        (respond(400, {"error": "too small"}), InvalidTaskError, "too small"),
        (respond(404, {"message": "no such model"}), EngineFailedError, "no such model"),
        (respond(429, {}, Retry_After="600"), EngineUnavailableError, "429"),
        (respond(500, "<html>oops"), EngineUncertainError, "not sent again"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        (respond(200, {"name": "?"}), EngineUncertainError, "not sent again"),
    ],
    ids=range(10),
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
    ("status", "details", "says"),
    [
        ("Request Moderated", {"Moderation Reasons": ["Violence", "Gore"]}, "Violence, Gore"),
        ("Content Moderated", None, "the picture made"),
        ("Task Moderated", ["x"], "x"),
    ],
)
async def test_moderation_is_final(
    vendor: StandIn, status: str, details: object, says: str
) -> None:
    """It says what was refused and why, and nothing is tried again."""
    vendor.polls.add(state("Pending"), state(status, details=details))
    with pytest.raises(ContentFilteredError, match=says):
        await events_of(vendor)
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize("last", [state("Error", details="GPU fell off"), state("Ready")])
async def test_a_job_that_dies_half_way_has_failed(vendor: StandIn, last: Handler) -> None:
    """Also one that is ready without a picture."""
    vendor.polls.add(state("Pending", progress=0.5), last)
    with pytest.raises(EngineFailedError):
        await events_of(vendor)


async def test_a_job_that_is_not_yet_known_everywhere_is_waited_for(vendor: StandIn) -> None:
    """The first polls may ask a region that has not heard of it."""
    vendor.polls.add(state("Task not found"), respond(404, {"detail": "Task not found"}))
    assert outputs(await events_of(vendor))


async def test_a_job_that_stays_unknown_is_lost(vendor: StandIn) -> None:
    """After a few seconds."""
    vendor.polls.always = state("Task not found")
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor)


async def test_an_unknown_status_means_that_the_job_goes_on(vendor: StandIn) -> None:
    """The set of statuses has grown before; progress may be nonsense."""
    vendor.polls.add(state("Reasoning", progress=7.0), state("Generating", progress=-1))
    assert outputs(await events_of(vendor))


async def test_faults_between_polls_do_not_lose_a_paid_job(vendor: StandIn) -> None:
    """Not even more of them than one question is repeated."""
    bad = [respond(500, "<html>"), respond(502, "<html>"), respond(504), drop_connection]
    vendor.polls.add(*bad, *bad, respond(429, {}), respond(200, "<html>"))
    assert outputs(await events_of(vendor))
    assert len(vendor.jobs) == 1


@pytest.mark.parametrize("for_ever", [state("Pending"), respond(503), hang])
async def test_a_job_that_never_ends_meets_the_deadline(vendor: StandIn, for_ever: Handler) -> None:
    """The error allows no other engine to be paid too."""
    vendor.polls.always = for_ever
    with pytest.raises(EngineTimeoutError) as error:
        await events_of(vendor, timeout_seconds=0.1)
    assert not error.value.repeatable


async def test_an_answer_that_drips_for_ever_is_cut_off(vendor: StandIn) -> None:
    """Every byte comes in time, but there is no end to them."""
    vendor.polls.always = drip
    with pytest.raises(EngineTimeoutError):
        await events_of(vendor, timeout_seconds=0.1)


@pytest.mark.parametrize(
    "trouble",
    [
        respond(403, "<Error>AuthenticationFailed</Error>"),
        respond(200, {"no": "picture"}),
        respond(200, "<html>"),
    ],
    ids=["expired", "json", "page"],
)
async def test_a_picture_that_is_gone_or_none_has_failed(vendor: StandIn, trouble: Handler) -> None:
    """It cannot be had by waiting."""
    vendor.downloads.add(trouble)
    with pytest.raises(EngineFailedError):
        await events_of(vendor)


async def test_a_download_that_never_ends_meets_the_deadline(vendor: StandIn) -> None:
    """Although the picture is ready."""
    vendor.downloads.add(drip)
    with pytest.raises(EngineTimeoutError):
        await events_of(vendor, timeout_seconds=0.2)


async def test_a_broken_file_is_not_given_out(vendor: StandIn) -> None:
    """A picture is decoded before it counts as one."""
    vendor.downloads.add(respond_bytes(png()[:2000], "image/png"))
    with pytest.raises(EngineFailedError, match="cannot be decoded"):
        await events_of(vendor)


async def test_a_download_that_breaks_is_taken_up_again(vendor: StandIn) -> None:
    """The picture is there for ten minutes."""
    vendor.downloads.add(cut_short(png(), "image/png"), respond(503))
    assert outputs(await events_of(vendor))
    assert vendor.leaks == 0


async def test_a_storage_that_stays_down_allows_no_other_engine_to_be_paid(
    vendor: StandIn,
) -> None:
    """The job is done and billed."""
    vendor.downloads.always = respond(503)
    with pytest.raises(EngineTimeoutError, match="still be working") as error:
        await events_of(vendor)
    assert not error.value.repeatable


async def test_a_polling_address_on_a_foreign_host_never_sees_the_key(vendor: StandIn) -> None:
    """The service names it, so it is not believed."""
    foreign = vendor.region.replace("127.0.0.1", "localhost")
    vendor.accepted = {"polling_url": f"{foreign}/v1/get_result?id=job-0"}
    with pytest.raises(EngineFailedError, match="must not receive the API key"):
        await events_of(vendor)
    assert vendor.jobs["job-0"].polls == 0


async def test_an_answer_without_polling_address_is_found_by_its_id(vendor: StandIn) -> None:
    """As those to requests with a webhook are."""
    vendor.accepted = {"polling_url": None, "status": "Pending", "webhook_url": "https://x"}
    assert outputs(await events_of(vendor))


async def test_a_key_that_the_service_repeats_is_not_passed_on(vendor: StandIn) -> None:
    """Not even a wrong one."""
    async with started(vendor, api_key="a-wrong-key") as engine:
        with pytest.raises(EngineUnavailableError) as error:
            await engine.check()
    assert "bad key" in str(error.value)
    assert "a-wrong-key" not in str(error.value)


async def test_a_restart_finds_the_job_and_pays_nothing(vendor: StandIn) -> None:
    """The new process has the handle alone."""
    handle = await handle_of_dead(vendor)
    events = await events_of(vendor, replace(TASK, resume=handle))
    assert outputs(events)
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
    """It isn't ordered again in silence."""
    handle = await handle_of_dead(vendor)
    vendor.jobs.clear()
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor, replace(TASK, resume=handle))
    with pytest.raises(EngineFailedError, match="lost"):
        await events_of(vendor, replace(TASK, resume="no handle"))
    assert not vendor.jobs
