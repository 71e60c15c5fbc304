"""What becomes of everything that can go wrong at an InvokeAI server; no work is left behind there."""

from __future__ import annotations

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
    respond_bytes,
)
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.event import Dispatched, Output, Step
from atelier_engines.task import ImageTask, Lora
from tests.vendors.invokeai.asking import TASK, events_of, outputs, plain, started, steps
from tests.vendors.invokeai.stand_in import StandIn


async def handle_of_killed(vendor: StandIn, task: ImageTask = TASK) -> str:
    """The handle of an engine whose process died: nothing was cancelled or tidied up."""
    async with started(vendor) as engine, aclosing(engine.run(task)) as events:
        handles = [event.handle async for event in events if isinstance(event, Dispatched)]
    return handles[0]


async def test_a_server_under_maintenance_is_asked_again_and_draws_once(vendor: StandIn) -> None:
    """It says 409 while it moves its pictures."""
    vendor.submits.add(respond(409, {"detail": "maintenance"}), respond(503))
    assert outputs(await events_of(vendor))
    assert len(vendor.batches) == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        (respond(422, {"detail": [{"msg": "unknown node"}]}), InvalidTaskError, "unknown node"),
        (respond(500, {"detail": "enqueuing"}), EngineUncertainError, "not sent again"),
        (respond(403, {"detail": "not yours"}), EngineUnavailableError, "not yours"),
        (drop_connection, EngineUncertainError, "not sent again"),
        (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
    ],
    ids=range(5),
)
async def test_a_submit_that_fails_is_not_repeated_and_leaves_nothing(
    vendor: StandIn, trouble: Handler, error: type[EngineError], says: str
) -> None:
    """What may have arrived is cancelled by our own name for it; what was sent along is removed."""
    vendor.submits.add(trouble)
    with pytest.raises(error, match=says):
        await events_of(vendor, replace(TASK, init_image=plain(8, 8, 8)))
    assert not vendor.batches
    assert len(vendor.cancelled) == 1
    assert vendor.uploads
    assert not vendor.queue.images


@pytest.mark.parametrize("room", [0, 1])
async def test_a_full_queue_is_told_from_success_and_nothing_stays_in_it(
    vendor: StandIn, room: int
) -> None:
    """The server says success, and how many of the pictures found room."""
    vendor.room, vendor.queue.paused = room, True
    with pytest.raises(EngineUnavailableError, match=f"room for {room} of 2"):
        await events_of(vendor, replace(TASK, seeds=(1, 2)))
    assert {item.status for item in vendor.queue.items.values()} <= {"canceled"}


@pytest.mark.parametrize(
    ("failure", "error", "says"),
    [
        (("OutOfMemoryError", "CUDA out of memory. Tried …"), OutOfMemoryError, "fewer pixels"),
        (("RuntimeError", "CUDA out of memory"), OutOfMemoryError, "fewer pixels"),
        (("UnknownModelException", "gone"), ModelMissingError, "no longer has a model"),
        (("Exception", "Unknown lora: k3!"), ModelMissingError, "k3"),
        (("ValueError", "no\nsuch\tthing"), EngineFailedError, "ValueError .no such thing"),
    ],
    ids=range(5),
)
async def test_work_that_fails_half_way_says_why(
    vendor: StandIn, failure: tuple[str, str], error: type[EngineError], says: str
) -> None:
    """In one line, and never with the server's traceback; the other pictures of the task are cancelled."""
    vendor.queue.failure = failure
    with pytest.raises(error, match=says) as caught:
        await events_of(vendor, replace(TASK, seeds=(1, 2)))
    assert "secret.py" not in str(caught.value)
    assert vendor.cancelled == [vendor.batches[0]["batch_id"]]


async def test_a_socket_that_breaks_half_way_loses_nothing(vendor: StandIn) -> None:
    """What happened meanwhile is not told again, so it is asked for."""
    vendor.queue.drops = True
    events = await events_of(vendor)
    assert outputs(events)
    assert steps(events)[-1] == (4, 4)


async def test_a_server_that_refuses_sockets_is_polled(vendor: StandIn) -> None:
    """The picture and the last step come all the same."""
    vendor.refuses_sockets = True
    events = await events_of(vendor)
    assert outputs(events)
    assert steps(events) == [(4, 4)]


async def test_a_silent_socket_is_no_reason_to_wait_for_ever(vendor: StandIn) -> None:
    """It connects, and tells nothing."""
    vendor.queue.silent = True
    assert outputs(await events_of(vendor))


async def test_events_out_of_order_change_nothing(vendor: StandIn) -> None:
    """An event about the status only says that it is time to ask."""
    vendor.queue.shuffled = True
    assert outputs(await events_of(vendor))


async def test_events_of_an_unknown_shape_are_let_pass(vendor: StandIn) -> None:
    """Among them are some that nobody would expect."""
    async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
        seen = []
        async for event in events:
            seen.append(event)
            if isinstance(event, Dispatched):
                batch_id = vendor.batches[0]["batch_id"]
                bad = {"batch_id": batch_id, "item_id": "x", "percentage": 7}
                await vendor.queue.tell("invocation_progress", bad)
                await vendor.queue.tell("queue_items_canceled", {"canceled_item_ids": None})
    assert outputs(seen)


async def test_work_cancelled_at_the_server_has_failed(vendor: StandIn) -> None:
    """Somebody pressed the button there; only a bulk event told it."""
    vendor.queue.stuck = True
    async with started(vendor) as engine, aclosing(engine.run(TASK)) as events:
        async for event in events:
            if isinstance(event, Step):
                break
        next(iter(vendor.queue.items.values())).status = "canceled"
        with pytest.raises(EngineFailedError, match="cancelled at invokeai"):
            await anext(events)


async def test_closing_cancels_our_batch_alone(vendor: StandIn) -> None:
    """Other people's work in the same queue goes on."""
    vendor.queue.stuck = True
    async with started(vendor) as engine:
        other = engine.run(TASK)
        await anext(other)
        await anext(other)
        async with aclosing(engine.run(replace(TASK, init_image=plain(8, 8, 8)))) as events:
            async for event in events:
                if isinstance(event, Dispatched):
                    break
        first, second = vendor.queue.items.values()
        assert (first.status, second.status) == ("in_progress", "canceled")
        assert not vendor.queue.images
        await other.aclose()
        assert first.status == "canceled"


async def test_faults_between_polls_do_not_lose_the_work(vendor: StandIn) -> None:
    """Not even more of them than one question is repeated."""
    vendor.polls.add(*[respond(502, "<html>"), drop_connection, respond(500)] * 3)
    assert outputs(await events_of(vendor))
    assert len(vendor.batches) == 1


@pytest.mark.parametrize("for_ever", [respond(503), hang, drip])
async def test_a_server_that_never_answers_meets_the_deadline(
    vendor: StandIn, for_ever: Handler
) -> None:
    """Every byte may come in time, but there is no end to them."""
    vendor.polls.always = for_ever
    with pytest.raises(EngineTimeoutError):
        await events_of(vendor, timeout_seconds=0.2)


async def test_a_paused_queue_meets_the_deadline_and_is_left_empty(vendor: StandIn) -> None:
    """The item would wait there for ever."""
    vendor.queue.paused = True
    with pytest.raises(EngineTimeoutError):
        await events_of(vendor, timeout_seconds=0.1)
    assert [item.status for item in vendor.queue.items.values()] == ["canceled"]


async def test_an_unknown_status_means_that_the_work_goes_on(vendor: StandIn) -> None:
    """`waiting` is one, while a workflow has called another."""
    vendor.polls.add(*(respond(200, {"status": name}) for name in ("waiting", "pondering")))
    assert outputs(await events_of(vendor))


@pytest.mark.parametrize(
    "result", [{"type": "latents_output"}, {"image": {"image_name": 7}}, {"image": None}]
)
async def test_work_that_is_done_without_a_picture_has_failed(
    vendor: StandIn, result: dict[str, object]
) -> None:
    """It says that it is done, but not where the picture is."""
    vendor.queue.result = result
    with pytest.raises(EngineFailedError, match="without an image"):
        await events_of(vendor)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (respond(404, {"detail": "Not Found"}), "deleted"),
        (respond(200, "<html>"), "instead of a result"),
        (respond_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50), "image/png"), "cannot be decoded"),
    ],
    ids=["gone", "page", "broken"],
)
async def test_a_picture_that_is_gone_or_none_has_failed(
    vendor: StandIn, trouble: Handler, says: str
) -> None:
    """It cannot be had by waiting."""
    vendor.files.add(trouble)
    with pytest.raises(EngineFailedError, match=says):
        await events_of(vendor)


async def test_a_download_that_breaks_is_taken_up_again(vendor: StandIn) -> None:
    """The picture is still there."""
    vendor.files.add(cut_short(bytes(1000), "image/png"), respond(503))
    assert outputs(await events_of(vendor))


async def test_a_lora_that_was_removed_since_the_start_is_refused_by_the_server(
    vendor: StandIn,
) -> None:
    """What it says reaches the caller."""
    async with started(vendor) as engine:
        del vendor.models["k3"]
        with pytest.raises(InvalidTaskError, match="unknown lora"):
            async with aclosing(engine.run(replace(TASK, loras=(Lora(name="ink"),)))) as events:
                _ = [event async for event in events]


async def test_a_restart_finds_the_work_and_asks_for_nothing_again(vendor: StandIn) -> None:
    """The new process has the handle alone; the pictures are still there, as after a kill."""
    task = replace(TASK, seeds=(3, 4))
    vendor.boards["atelier"] = "board-0"
    async with started(vendor, board="atelier") as engine, aclosing(engine.run(task)) as events:
        handles = [event.handle async for event in events if isinstance(event, Dispatched)]
    again = await events_of(vendor, replace(task, resume=handles[0]), board="atelier")
    assert [event.seed for event in again if isinstance(event, Output)] == [3, 4]
    assert len(vendor.batches) == 1


async def test_a_restart_finds_work_that_is_still_going_on(vendor: StandIn) -> None:
    """And hears its progress from there on."""
    vendor.queue.stuck = True
    async with started(vendor) as dead, aclosing(dead.run(TASK)) as lost:
        await anext(lost)
        dispatched = await anext(lost)
        assert isinstance(dispatched, Dispatched)
        vendor.queue.stuck = False
        events = await events_of(vendor, replace(TASK, resume=dispatched.handle))
    assert outputs(events)
    assert len(vendor.batches) == 1


async def test_a_restart_of_both_asks_again_for_what_the_server_gave_up(vendor: StandIn) -> None:
    """An InvokeAI server cancels at its start what was under way, and all of that is free."""
    handle = await handle_of_killed(vendor)
    for item in vendor.queue.items.values():
        item.status = "canceled"
    assert outputs(await events_of(vendor, replace(TASK, resume=handle)))
    assert len(vendor.batches) == 2


async def test_a_restart_after_the_queue_was_cleared_says_that_the_work_is_lost(
    vendor: StandIn,
) -> None:
    """It isn't asked for again in silence; nor is what no handle describes."""
    handle = await handle_of_killed(vendor)
    vendor.queue.items.clear()
    for resume in (handle, "no handle"):
        with pytest.raises(EngineFailedError, match="lost"):
            await events_of(vendor, replace(TASK, resume=resume))
    assert len(vendor.batches) == 1
