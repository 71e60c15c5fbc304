"""How instances are rented, started, replaced, released and paid for; each of them is a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

import pytest
from aiohttp import web

from atelier_client import AsyncClient, State
from atelier_engines.conformance.fake_server import drop_connection, respond
from atelier_engines.errors import (
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
)
from atelier_engines.event import Dispatched, Output, Step
from atelier_engines.task import ImageTask
from tests.conftest import wait_until_serving
from tests.vendors.calls import run_task
from tests.vendors.vastai.conftest import Make
from tests.vendors.vastai.stand_in import PORT, StandIn, offer

TASK = ImageTask(prompt="a lamp", width=64, height=64, seeds=(3,), steps=2, guidance=5.0)
SLOW = replace(TASK, steps=100, options={"delay_seconds": 60})


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once the condition holds; the test's timeout ends the wait."""
    while not holds():  # noqa: ASYNC110 (it happens in another thread or process)
        await asyncio.sleep(0.01)


async def wait_until_running(address: str) -> None:
    """Wait until the server at that address runs a task."""
    async with AsyncClient(address) as client:
        while True:
            async with aclosing(client.list()) as found:
                if any([one.state is State.RUNNING async for one in found]):
                    return
            await asyncio.sleep(0.02)


async def test_the_cheapest_offer_is_rented_and_destroyed_in_the_stop(
    vendor: StandIn, make: Make
) -> None:
    """With the port mapped and the label set, and nothing left that costs."""
    vendor.offers = [offer(1, 0.9), offer(2, 0.3), offer(3, 5.0)]
    engine = make()
    await engine.start()
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    (instance,) = vendor.rented
    assert instance.offer["id"] == 2
    assert instance.order["env"] == {f"-p {PORT}:{PORT}": "1"}
    assert instance.order["label"].startswith("tests/")
    await engine.check()
    await engine.stop()
    assert vendor.instances == {}


async def test_after_an_unavailable_offer_the_next_one_is_rented(
    vendor: StandIn, make: Make
) -> None:
    """Whatever the message of the rejection."""
    vendor.taken = {1}
    gone = {"success": False, "error": "no_such_ask", "msg": "error 410/3603: no_such_ask"}
    vendor.creations.add(vendor.accept, respond(200, gone))
    await make().start()
    assert [instance.offer["id"] for instance in vendor.rented] == [3]


async def test_without_offers_the_start_fails(vendor: StandIn, make: Make) -> None:
    """After the acquire timeout; nothing was rented."""
    vendor.offers = []
    with pytest.raises(EngineUnavailableError, match="no offer"):
        await make(acquire_timeout_seconds=0.3).start()


async def test_an_instance_that_cannot_start_is_replaced(vendor: StandIn, make: Make) -> None:
    """Detected by its status message; its host is excluded."""
    broken = {"actual_status": "loading", "status_msg": "Error: no such image atelier:1"}
    vendor.fates[1] = {"dead": True, **broken}
    await make().start()
    assert [instance.offer["id"] for instance in vendor.rented] == [1, 2]
    assert len(vendor.instances) == 1


async def test_an_instance_that_does_not_start_in_time_is_replaced(
    vendor: StandIn, make: Make
) -> None:
    """After the startup timeout."""
    vendor.offers = [offer(1), offer(2)]
    vendor.fates = {number: {"dead": True, "actual_status": "loading"} for number in (1, 2)}
    with pytest.raises(EngineUnavailableError, match="no offer"):
        await make(startup_timeout_seconds=0.3, acquire_timeout_seconds=5).start()
    assert [instance.offer["id"] for instance in vendor.rented] == [1, 2]
    assert vendor.instances == {}


async def test_a_running_instance_without_atelier_is_not_ready(vendor: StandIn, make: Make) -> None:
    """Atelier must respond on it."""
    vendor.fates[1] = {"dead": True}
    vendor.offers = [offer(1)]
    with pytest.raises(EngineUnavailableError, match="still starting") as error:
        await make(acquire_timeout_seconds=1.0).start()
    assert error.value.retry_after_seconds == 0.05  # as often as it asks


async def test_a_lost_response_rents_no_second_instance(vendor: StandIn, make: Make) -> None:
    """The creation was accepted, but the connection broke: the instance is found by its label."""

    async def accepted_in_silence(request: web.Request) -> web.StreamResponse:
        await vendor.accept(request)
        return await drop_connection(request)

    vendor.creations.add(accepted_in_silence)
    await make().start()
    assert len(vendor.rented) == 1


@pytest.mark.parametrize(
    ("check_seconds", "retry_timeout_seconds"),
    [(0.05, 3600.0), (3600.0, 0.2)],
    ids=["by the checks", "by the timeout"],
)
async def test_a_lost_instance_fails_its_task(
    vendor: StandIn, make: Make, check_seconds: float, retry_timeout_seconds: float
) -> None:
    """With an error that allows a repetition, however the loss is detected."""
    worker = {"engine": "sketch", "retry_timeout_seconds": retry_timeout_seconds}
    engine = make(check_seconds=check_seconds, worker=worker)
    await engine.start()
    working = asyncio.create_task(run_task(engine, SLOW))
    (instance,) = vendor.rented
    assert instance.server is not None
    await wait_until_running(instance.server.address)
    instance.fate["actual_status"] = "exited"
    instance.server.kill()
    with pytest.raises(EngineFailedError, match="was lost") as lost:
        await working
    assert lost.value.repeatable


async def test_a_lost_instance_is_replaced_in_the_background(vendor: StandIn, make: Make) -> None:
    """The next task runs on the next instance, on another host."""
    engine = make()
    await engine.start()
    (instance,) = vendor.rented
    assert instance.server is not None
    instance.fate["actual_status"] = "offline"
    instance.server.kill()
    await eventually(lambda: len(vendor.rented) == 2)
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    assert [instance.offer["id"] for instance in vendor.rented] == [1, 2]
    assert len(vendor.instances) == 1


async def test_an_unhealthy_instance_is_replaced_in_the_background(
    vendor: StandIn, make: Make
) -> None:
    """It is running, but the circuit breaker of its engine is open."""
    rest = {"failure_threshold": 1, "reset_timeout_seconds": 3600}
    vendor.engines = {"sketch": {"type": "sketch", "breaker": rest}}
    engine = make()
    await engine.start()
    with pytest.raises(EngineFailedError):
        await run_task(engine, replace(TASK, options={"fail": True}))
    await eventually(lambda: len(vendor.rented) == 2)
    assert isinstance((await run_task(engine, TASK))[-1], Output)


async def test_leftover_instances_are_destroyed_at_the_start(vendor: StandIn, make: Make) -> None:
    """All with the label that are not ready, on every page; those with other labels are kept."""
    others = {vendor.add(f"other-label/{number}", starts=False).id for number in range(2)}
    vendor.add("tests/1", starts=False)
    vendor.add("tests/2", starts=False)
    await make().start()
    assert set(vendor.instances) == {*others, vendor.rented[-1].id}


async def test_one_of_several_leftover_instances_is_adopted(vendor: StandIn, make: Make) -> None:
    """It is ready, so that nothing is rented; the others are destroyed."""
    left = [vendor.add("tests/1", starts=False), vendor.add("tests/2"), vendor.add("tests/3")]
    for instance in left:
        instance.looks = 10
        if instance.server is not None:
            await asyncio.to_thread(wait_until_serving, instance.server, ["sketch"])
    await make().start()
    assert len(vendor.rented) == len(left)
    assert set(vendor.instances) == {left[1].id}


async def test_a_task_is_found_again_on_an_adopted_instance(vendor: StandIn, make: Make) -> None:
    """The process died: the next one adopts the instance and the task on it, and rents nothing."""
    first = make(check_seconds=3600)
    await first.start()
    brisk = replace(TASK, steps=20, options={"delay_seconds": 2})
    dying = first.run(brisk)
    handle = ""
    async for event in dying:
        if isinstance(event, Dispatched):
            handle = event.handle
        if isinstance(event, Step):
            break
    second = make()
    await second.start()
    events = await run_task(second, replace(brisk, resume=handle))
    assert isinstance(events[-1], Output)
    assert len(vendor.rented) == 1
    server = vendor.rented[0].server
    assert server is not None
    async with AsyncClient(server.address) as client, aclosing(client.list()) as found:
        assert [one.state async for one in found] == [State.SUCCEEDED]
    await dying.aclose()


async def test_a_resumed_task_that_is_left_at_its_second_event_is_cancelled(
    vendor: StandIn, make: Make
) -> None:
    """A start leaves the jobs so that an earlier process was to cancel."""
    first = make(check_seconds=3600)
    await first.start()
    dying = first.run(SLOW)
    handle = ""
    async for event in dying:
        if isinstance(event, Dispatched):
            handle = event.handle
        if isinstance(event, Step):
            break
    second = make()
    await second.start()
    async with aclosing(second.run(replace(SLOW, resume=handle))) as events:
        for _ in range(2):
            await anext(events)
    server = vendor.rented[0].server
    assert server is not None
    async with AsyncClient(server.address) as client, aclosing(client.list()) as found:
        assert [one.state async for one in found] == [State.CANCELLED]
    await dying.aclose()


async def test_a_kept_instance_survives_the_stop(vendor: StandIn, make: Make) -> None:
    """The next start adopts it."""
    engine = make(keep_on_stop=True)
    await engine.start()
    await engine.stop()
    assert len(vendor.instances) == 1
    await make().start()
    assert len(vendor.rented) == 1


async def test_an_idle_instance_is_destroyed_and_the_next_task_rents_another(
    vendor: StandIn, make: Make
) -> None:
    """An engine without an instance is healthy."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=60)
    await engine.start()
    now[0] += 61
    await eventually(lambda: not vendor.instances)
    await engine.check()
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    assert len(vendor.rented) == 2


async def test_the_spending_cap_ends_renting(vendor: StandIn, make: Make) -> None:
    """The instance is destroyed, and no other is rented."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=None, spending_cap=2.0)
    await engine.start()
    now[0] += 4 * 3600  # at 0.40 an hour
    await engine.check()
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    now[0] += 2 * 3600
    await eventually(lambda: not vendor.instances)
    with pytest.raises(EngineQuotaError, match="spending_cap"):
        await run_task(engine, TASK)
    with pytest.raises(EngineQuotaError):
        await engine.check()
    assert len(vendor.rented) == 1


async def test_an_account_without_credit_is_a_quota_error(vendor: StandIn, make: Make) -> None:
    """Waiting does not help."""
    no_credit = {
        "success": False,
        "error": "insufficient_credit",
        "msg": "Your account lacks credit",
    }
    vendor.creations.always = respond(400, no_credit)
    with pytest.raises(EngineQuotaError, match="credit"):
        await make().start()


async def test_a_rate_limit_is_retried(vendor: StandIn, make: Make) -> None:
    """Plain text, without a delay."""
    busy = respond(429, "API requests too frequent endpoint threshold=3.0")
    vendor.searches.add(busy, busy)
    vendor.creations.add(busy)
    vendor.looks.add(busy)
    await make().start()
    assert len(vendor.rented) == 1


async def test_a_daily_quota_of_searches_is_not_retried(vendor: StandIn, make: Make) -> None:
    """It lasts until midnight."""
    vendor.searches.always = respond(429, {"error": "search_quota_exceeded"})
    with pytest.raises(EngineQuotaError, match="search"):
        await make().start()


async def test_a_ready_instance_stays_in_use_while_the_service_is_down(
    vendor: StandIn, make: Make
) -> None:
    """Tasks do not need the service."""
    engine = make()
    await engine.start()
    for line in (vendor.looks, vendor.lists, vendor.searches):
        line.always = respond(500, "oops")
    await asyncio.sleep(0.3)
    await engine.check()
    assert isinstance((await run_task(engine, TASK))[-1], Output)


async def test_a_service_that_is_down_rents_nothing(vendor: StandIn, make: Make) -> None:
    """Leftover instances could not be found."""
    vendor.lists.always = respond(503, "oops")
    with pytest.raises(EngineUnavailableError):
        await make().start()
    assert vendor.rented == []


async def test_a_wrong_key_is_reported_without_being_shown(make: Make) -> None:
    """Even if the service repeats it."""
    with pytest.raises(EngineUnavailableError, match="key") as rejected:
        await make(api_key="wrong-key-of-the-tests").start()
    assert "wrong-key-of-the-tests" not in str(rejected.value)


async def test_a_destruction_that_fails_is_retried_until_it_succeeds(
    vendor: StandIn, make: Make
) -> None:
    """It costs until then."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=60)
    await engine.start()
    vendor.destructions.add(*[respond(500, "oops")] * 7)
    now[0] += 61
    await eventually(lambda: not vendor.instances)
