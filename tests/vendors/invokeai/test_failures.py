"""Failures of an InvokeAI server; nothing is left behind on it."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drop_connection,
    respond,
    respond_bytes,
)
from atelier_engines.conformance.remote import (
    CancelConformance,
    KeepConformance,
    PollConformance,
    RestartConformance,
)
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_events,
    collect_outputs,
    crash,
    run_engine,
    wait,
)
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
from atelier_engines.event import Dispatched, Step
from atelier_engines.task import Lora
from tests.vendors.calls import outputs, plain, steps
from tests.vendors.invokeai.stand_in import TASK, StandIn


class TestFailures(RestartConformance, PollConformance, CancelConformance, KeepConformance):
    """The parts of the suite for remote engines that are not about payment."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor

    def test_transient_errors_between_polls_do_not_lose_a_paid_job(
        self, service: FakeService, running_job: Handler
    ) -> None:
        """Not even more of them than one request is retried."""
        errors = [respond(502, "<html>"), drop_connection, respond(500)]
        service.polls.add(*errors, *errors, *errors, running_job)
        assert wait(collect_outputs(service))
        assert service.accepted == 1


async def test_a_server_under_maintenance_is_retried_and_generates_once(vendor: StandIn) -> None:
    """It responds 409 while it moves its images."""
    vendor.submits.add(respond(409, {"detail": "maintenance"}), respond(503))
    assert outputs(await collect_events(vendor))
    assert len(vendor.batches) == 1


@pytest.mark.parametrize(
    ("response", "error", "message"),
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
    vendor: StandIn, response: Handler, error: type[EngineError], message: str
) -> None:
    """A batch that may have arrived is cancelled by its id; uploads are deleted."""
    vendor.submits.add(response)
    with pytest.raises(error, match=message):
        await collect_events(vendor, replace(TASK, init_image=plain(8, 8, 8)))
    assert not vendor.batches
    assert vendor.cancelled == 1
    assert vendor.uploads
    assert not vendor.queue.images


@pytest.mark.parametrize("room", [0, 1])
async def test_a_full_queue_is_an_error_and_no_item_stays_in_it(vendor: StandIn, room: int) -> None:
    """The server responds with success, and the number of images that had room."""
    vendor.room, vendor.queue.paused = room, True
    with pytest.raises(EngineUnavailableError, match=f"room for {room} of 2") as error:
        await collect_events(vendor, replace(TASK, seeds=(1, 2)))
    assert error.value.retry_after_seconds == 10
    assert {item.status for item in vendor.queue.items.values()} <= {"canceled"}


@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (("OutOfMemoryError", "CUDA out of memory. Tried …"), OutOfMemoryError, "fewer pixels"),
        (("RuntimeError", "CUDA out of memory"), OutOfMemoryError, "fewer pixels"),
        (("UnknownModelException", "gone"), ModelMissingError, "no longer has a model"),
        (
            (
                "FileNotFoundError",
                "Files for model 'ink' not found at /srv/models/x/ink.safetensors",
            ),
            ModelMissingError,
            r"model 'ink' not found at \(a path on the server\)\); files of a model",
        ),
        (("SafetensorError", "header too large"), ModelMissingError, "missing or broken"),
        (
            ("OSError", "Error no file named model.safetensors found in directory /srv/m/unet."),
            ModelMissingError,
            "missing or broken",
        ),
        (("Exception", "Unknown lora: k3!"), ModelMissingError, "k3"),
        (("ValueError", "no\nsuch\tthing"), EngineFailedError, "ValueError .no such thing"),
    ],
    ids=range(8),
)
async def test_an_item_that_fails_says_why(
    vendor: StandIn, failure: tuple[str, str], error: type[EngineError], message: str
) -> None:
    """On one line and without the server's traceback; the other items of the task are cancelled."""
    vendor.queue.failure = failure
    with pytest.raises(error, match=message) as caught:
        await collect_events(vendor, replace(TASK, seeds=(1, 2)))
    assert not re.search(r"secret\.py|/srv", str(caught.value))
    assert vendor.cancelled_batches == [vendor.batches[0]["batch_id"]]


async def test_a_socket_that_breaks_loses_nothing(vendor: StandIn) -> None:
    """Missed events are not repeated, so the item is polled."""
    vendor.queue.drops = True
    events = await collect_events(vendor)
    assert outputs(events)
    assert steps(events)[-1] == (4, 4)


async def test_a_server_that_refuses_sockets_is_polled(vendor: StandIn) -> None:
    """The image and the last step arrive all the same."""
    vendor.refuses_sockets = True
    events = await collect_events(vendor)
    assert outputs(events)
    assert steps(events) == [(4, 4)]


async def test_a_socket_without_events_does_not_block_the_task(vendor: StandIn) -> None:
    """It connects, and sends nothing."""
    vendor.queue.silent = True
    assert outputs(await collect_events(vendor))


async def test_events_out_of_order_change_nothing(vendor: StandIn) -> None:
    """An event about the status only triggers a poll."""
    vendor.queue.shuffled = True
    assert outputs(await collect_events(vendor))


async def test_invalid_events_are_ignored(vendor: StandIn) -> None:
    """Also invalid bulk events."""
    async with run_engine(vendor) as engine, aclosing(engine.run(TASK)) as events:
        seen = []
        async for event in events:
            seen.append(event)
            if isinstance(event, Dispatched) and vendor.batches:
                batch_id = vendor.batches[0]["batch_id"]
                bad = {"batch_id": batch_id, "item_id": "x", "percentage": 7}
                await vendor.queue.send("invocation_progress", bad)
                await vendor.queue.send("queue_items_canceled", {"canceled_item_ids": None})
    assert outputs(seen)


async def test_an_item_cancelled_at_the_server_has_failed(vendor: StandIn) -> None:
    """It is only reported by a bulk event."""
    vendor.queue.stuck = True
    async with run_engine(vendor) as engine, aclosing(engine.run(TASK)) as events:
        async for event in events:
            if isinstance(event, Step):
                break
        next(iter(vendor.queue.items.values())).status = "canceled"
        with pytest.raises(JobStoppedError, match="cancelled at invokeai"):
            await anext(events)


async def test_closing_cancels_our_batch_alone(vendor: StandIn) -> None:
    """Other items in the same queue continue."""
    vendor.queue.stuck = True
    async with run_engine(vendor) as engine:
        other = engine.run(TASK)
        while not isinstance(await anext(other), Dispatched) or not vendor.batches:
            pass
        async with aclosing(engine.run(replace(TASK, init_image=plain(8, 8, 8)))) as events:
            async for event in events:
                if isinstance(event, Dispatched) and len(vendor.batches) > 1:
                    break
        first, second = vendor.queue.items.values()
        assert (first.status, second.status) == ("in_progress", "canceled")
        assert not vendor.queue.images
        await other.aclose()
        assert first.status == "canceled"


async def test_a_paused_queue_times_out_and_is_left_empty(vendor: StandIn) -> None:
    """The item would never run."""
    vendor.queue.paused = True
    with pytest.raises(EngineTimeoutError):
        await collect_events(vendor, timeout_seconds=0.1)
    assert [item.status for item in vendor.queue.items.values()] == ["canceled"]


async def test_an_unknown_status_counts_as_running(vendor: StandIn) -> None:
    """`waiting` is one, while a workflow has called another."""
    vendor.polls.add(*(respond(200, {"status": name}) for name in ("waiting", "pondering")))
    assert outputs(await collect_events(vendor))


@pytest.mark.parametrize(
    "result", [{"type": "latents_output"}, {"image": {"image_name": 7}}, {"image": None}]
)
async def test_an_item_completed_without_an_image_has_failed(
    vendor: StandIn, result: dict[str, object]
) -> None:
    """The result has no name of an image."""
    vendor.queue.result = result
    with pytest.raises(EngineFailedError, match="without an image"):
        await collect_events(vendor)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (respond(404, {"detail": "Not Found"}), "deleted"),
        (respond(200, "<html>"), "instead of a result"),
        (respond_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50), "image/png"), "cannot be decoded"),
    ],
    ids=["gone", "page", "broken"],
)
async def test_an_image_that_is_gone_or_invalid_has_failed(
    vendor: StandIn, response: Handler, message: str
) -> None:
    """Waiting would not help."""
    vendor.downloads.add(response)
    with pytest.raises(EngineFailedError, match=message):
        await collect_events(vendor)


async def test_a_download_that_breaks_is_retried(vendor: StandIn) -> None:
    """The image is still there."""
    vendor.downloads.add(cut_short(bytes(1000), "image/png"), respond(503))
    assert outputs(await collect_events(vendor))


async def test_a_lora_that_was_removed_since_the_start_is_rejected_by_the_server(
    vendor: StandIn,
) -> None:
    """Its message reaches the caller."""
    async with run_engine(vendor) as engine:
        del vendor.models["k3"]
        with pytest.raises(InvalidTaskError, match="unknown lora"):
            async with aclosing(engine.run(replace(TASK, loras=(Lora(name="ink"),)))) as events:
                _ = [event async for event in events]


async def test_a_restart_finds_an_item_that_is_still_running(vendor: StandIn) -> None:
    """Its progress continues."""
    vendor.queue.stuck = True
    async with run_engine(vendor) as dead, aclosing(dead.run(TASK)) as lost:
        await anext(lost)
        dispatched = await anext(lost)
        assert isinstance(dispatched, Dispatched)
        vendor.queue.stuck = False
        events = await collect_events(vendor, replace(TASK, resume=dispatched.handle))
    assert outputs(events)
    assert len(vendor.batches) == 1


async def test_a_restart_of_both_submits_again_what_the_server_cancelled(vendor: StandIn) -> None:
    """An InvokeAI server cancels running items at its start, and they are free."""
    handle = await crash(vendor)
    for item in vendor.queue.items.values():
        item.status = "canceled"
    assert outputs(await collect_events(vendor, replace(TASK, resume=handle)))
    assert len(vendor.batches) == 2
