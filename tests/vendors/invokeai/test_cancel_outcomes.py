"""What becomes of a batch on an InvokeAI server whose run is closed."""

from __future__ import annotations

from atelier_engines.closing import Stop
from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import run_engine
from atelier_engines.event import Dispatched, Event, Stage
from tests.server.calls import eventually
from tests.vendors.calls import at_stage, stop_when
from tests.vendors.invokeai.stand_in import TASK, StandIn


async def test_a_waiting_batch_never_starts(vendor: StandIn) -> None:
    """It is taken out of the queue."""
    vendor.queue.paused = True
    assert await stop_when(vendor, at_stage("queued")) is Stop.NEVER_STARTED


async def test_a_running_batch_is_stopped(vendor: StandIn) -> None:
    """Between two steps."""
    vendor.queue.stuck = True
    running = lambda _: any(item.started_at for item in vendor.queue.items.values())  # noqa: E731 (of one use)
    assert await stop_when(vendor, running) is Stop.STOPPED


async def test_before_a_batch_is_sent_there_is_none_to_stop(vendor: StandIn) -> None:
    """Its id is stored, and that is all."""
    assert await stop_when(vendor, _dispatched) is Stop.NEVER_STARTED
    assert vendor.cancelled_batches == []


async def test_a_batch_that_cannot_be_cancelled_now_is_cancelled_later(vendor: StandIn) -> None:
    """When the server answers again."""
    vendor.queue.stuck = True
    vendor.cancels.always = respond(503)
    async with run_engine(vendor) as engine:
        events = engine.run(TASK)
        while not isinstance(await anext(events), Stage) or not vendor.batches:
            pass
        await events.aclose()
        assert [item.status for item in vendor.queue.items.values()] != ["canceled"]
        vendor.cancels.clear()
        await eventually(
            lambda: [item.status for item in vendor.queue.items.values()] == ["canceled"]
        )


def _dispatched(event: Event) -> bool:
    return isinstance(event, Dispatched)
