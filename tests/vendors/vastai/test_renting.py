"""How machines are found, started, replaced, given back and paid for; each of them a real server."""

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

PICTURE = ImageTask(prompt="a lamp", width=64, height=64, seeds=(3,), steps=2, guidance=5.0)
SLOW = replace(PICTURE, steps=100, options={"delay_seconds": 60})


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own timeout ends the wait for what never does."""
    while not holds():  # noqa: ASYNC110 (it happens in another thread or process)
        await asyncio.sleep(0.01)


async def begun_at(address: str) -> None:
    """Wait until the server there is at work on something."""
    async with AsyncClient(address) as client:
        while True:
            async with aclosing(client.list()) as found:
                if any([one.state is State.RUNNING async for one in found]):
                    return
            await asyncio.sleep(0.02)


async def test_the_cheapest_offer_is_rented_and_destroyed_in_the_end(
    vendor: StandIn, make: Make
) -> None:
    """With the port mapped, our label, and nothing left that costs."""
    vendor.offers = [offer(1, 0.9), offer(2, 0.3), offer(3, 5.0)]
    engine = make()
    await engine.start()
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)
    (box,) = vendor.rented
    assert box.offer["id"] == 2
    assert box.order["env"] == {f"-p {PORT}:{PORT}": "1"}
    assert box.order["label"].startswith("tests/")
    await engine.check()
    await engine.stop()
    assert vendor.boxes == {}


async def test_an_offer_that_is_gone_is_followed_by_the_next(vendor: StandIn, make: Make) -> None:
    """Whatever the wording of the refusal."""
    vendor.taken = {1}
    gone = {"success": False, "error": "no_such_ask", "msg": "error 410/3603: no_such_ask"}
    vendor.creations.add(vendor.accept, respond(200, gone))
    await make().start()
    assert [box.offer["id"] for box in vendor.rented] == [3]


async def test_no_offers_leave_the_task_to_others(vendor: StandIn, make: Make) -> None:
    """After the time that it may wait; nothing was begun."""
    vendor.offers = []
    with pytest.raises(EngineUnavailableError, match="no offer"):
        await make(acquire_timeout_seconds=0.3).start()


async def test_a_machine_that_cannot_start_is_replaced(vendor: StandIn, make: Make) -> None:
    """Told by its status message; its host is never rented again."""
    broken = {"actual_status": "loading", "status_msg": "Error: no such image atelier:1"}
    vendor.fates[1] = {"dead": True, **broken}
    await make().start()
    assert [box.offer["id"] for box in vendor.rented] == [1, 2]
    assert len(vendor.boxes) == 1


async def test_a_machine_that_is_stuck_is_replaced(vendor: StandIn, make: Make) -> None:
    """When its time to start is over."""
    vendor.offers = [offer(1), offer(2)]
    vendor.fates = {number: {"dead": True, "actual_status": "loading"} for number in (1, 2)}
    with pytest.raises(EngineUnavailableError, match="no offer"):
        await make(startup_timeout_seconds=0.3, acquire_timeout_seconds=5).start()
    assert [box.offer["id"] for box in vendor.rented] == [1, 2]
    assert vendor.boxes == {}


async def test_running_is_not_serving(vendor: StandIn, make: Make) -> None:
    """A machine whose Atelier does not answer is not used."""
    vendor.fates[1] = {"dead": True}
    vendor.offers = [offer(1)]
    with pytest.raises(EngineUnavailableError, match="still starting"):
        await make(acquire_timeout_seconds=1.0).start()


async def test_a_lost_answer_rents_no_second_machine(vendor: StandIn, make: Make) -> None:
    """The creation was accepted, but the connection broke: it is found by its label."""

    async def accepted_in_silence(request: web.Request) -> web.StreamResponse:
        await vendor.accept(request)
        return await drop_connection(request)

    vendor.creations.add(accepted_in_silence)
    await make().start()
    assert len(vendor.rented) == 1


@pytest.mark.parametrize(
    ("check_seconds", "retry_timeout_seconds"),
    [(0.05, 3600.0), (3600.0, 0.2)],
    ids=["told by the watch", "told by the silence"],
)
async def test_a_machine_that_dies_fails_its_work(
    vendor: StandIn, make: Make, check_seconds: float, retry_timeout_seconds: float
) -> None:
    """By a failure after which trying again does no harm, whoever notices it first."""
    worker = {"engine": "sketch", "retry_timeout_seconds": retry_timeout_seconds}
    engine = make(check_seconds=check_seconds, worker=worker)
    await engine.start()
    working = asyncio.create_task(run_task(engine, SLOW))
    (box,) = vendor.rented
    assert box.server is not None
    await begun_at(box.server.address)
    box.fate["actual_status"] = "exited"
    box.server.kill()
    with pytest.raises(EngineFailedError, match="was lost") as lost:
        await working
    assert lost.value.repeatable


async def test_a_machine_that_dies_is_replaced_in_the_background(
    vendor: StandIn, make: Make
) -> None:
    """The next task finds the next machine, at another host."""
    engine = make()
    await engine.start()
    (box,) = vendor.rented
    assert box.server is not None
    box.fate["actual_status"] = "offline"
    box.server.kill()
    await eventually(lambda: len(vendor.rented) == 2)
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)
    assert [box.offer["id"] for box in vendor.rented] == [1, 2]
    assert len(vendor.boxes) == 1


async def test_a_sick_worker_is_replaced_in_the_background(vendor: StandIn, make: Make) -> None:
    """Its machine runs, but its engine rests after too many faults; nobody had to ask."""
    rest = {"failure_threshold": 1, "reset_timeout_seconds": 3600}
    vendor.engines = {"sketch": {"type": "sketch", "breaker": rest}}
    engine = make()
    await engine.start()
    with pytest.raises(EngineFailedError):
        await run_task(engine, replace(PICTURE, options={"fail": True}))
    await eventually(lambda: len(vendor.rented) == 2)
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)


async def test_orphans_are_destroyed_at_the_start(vendor: StandIn, make: Make) -> None:
    """All that bear our label and do not serve, on whatever page; those of others are left alone."""
    others = {vendor.add(f"somebody-else/{number}", boots=False).id for number in range(2)}
    vendor.add("tests/1", boots=False)
    vendor.add("tests/2", boots=False)
    await make().start()
    assert set(vendor.boxes) == {*others, vendor.rented[-1].id}


async def test_of_many_machines_that_were_left_one_is_taken_over(
    vendor: StandIn, make: Make
) -> None:
    """It serves, so that nothing is rented; the others are destroyed."""
    left = [vendor.add("tests/1", boots=False), vendor.add("tests/2"), vendor.add("tests/3")]
    for box in left:
        box.looks = 10
        if box.server is not None:
            await asyncio.to_thread(wait_until_serving, box.server, ["sketch"])
    await make().start()
    assert len(vendor.rented) == len(left)
    assert set(vendor.boxes) == {left[1].id}


async def test_work_is_found_again_on_a_machine_that_was_left(vendor: StandIn, make: Make) -> None:
    """The process died: the next one takes the machine over, and the work on it, and rents nothing."""
    first = make(check_seconds=3600)
    await first.start()
    brisk = replace(PICTURE, steps=20, options={"delay_seconds": 2})
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


async def test_a_kept_machine_outlives_the_stop(vendor: StandIn, make: Make) -> None:
    """And the next start takes it over."""
    engine = make(keep_on_stop=True)
    await engine.start()
    await engine.stop()
    assert len(vendor.boxes) == 1
    await make().start()
    assert len(vendor.rented) == 1


async def test_an_idle_machine_is_given_back_and_the_next_task_rents_anew(
    vendor: StandIn, make: Make
) -> None:
    """An engine without a machine can work all the same."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=60)
    await engine.start()
    now[0] += 61
    await eventually(lambda: not vendor.boxes)
    await engine.check()
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)
    assert len(vendor.rented) == 2


async def test_the_cap_ends_the_spending(vendor: StandIn, make: Make) -> None:
    """The machine is destroyed, and nothing more is rented."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=None, spending_cap=2.0)
    await engine.start()
    now[0] += 4 * 3600  # at 0.40 an hour
    await engine.check()
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)
    now[0] += 2 * 3600
    await eventually(lambda: not vendor.boxes)
    with pytest.raises(EngineQuotaError, match="spending_cap"):
        await run_task(engine, PICTURE)
    with pytest.raises(EngineQuotaError):
        await engine.check()
    assert len(vendor.rented) == 1


async def test_an_empty_account_is_a_quota(vendor: StandIn, make: Make) -> None:
    """Waiting does not fill it."""
    poor = {"success": False, "error": "insufficient_credit", "msg": "Your account lacks credit"}
    vendor.creations.always = respond(400, poor)
    with pytest.raises(EngineQuotaError, match="credit"):
        await make().start()


async def test_a_rate_limit_is_waited_out(vendor: StandIn, make: Make) -> None:
    """Plain text, without a word of when."""
    busy = respond(429, "API requests too frequent endpoint threshold=3.0")
    vendor.searches.add(busy, busy)
    vendor.creations.add(busy)
    vendor.looks.add(busy)
    await make().start()
    assert len(vendor.rented) == 1


async def test_a_quota_of_searches_is_not_waited_out(vendor: StandIn, make: Make) -> None:
    """It lasts until midnight."""
    vendor.searches.always = respond(429, {"error": "search_quota_exceeded"})
    with pytest.raises(EngineQuotaError, match="search"):
        await make().start()


async def test_a_service_that_is_down_is_no_end_to_a_machine_that_serves(
    vendor: StandIn, make: Make
) -> None:
    """Work goes on without it."""
    engine = make()
    await engine.start()
    for line in (vendor.looks, vendor.lists, vendor.searches):
        line.always = respond(500, "oops")
    await asyncio.sleep(0.3)
    await engine.check()
    assert isinstance((await run_task(engine, PICTURE))[-1], Output)


async def test_a_service_that_is_down_rents_nothing(vendor: StandIn, make: Make) -> None:
    """Orphans could not be told from what is wanted."""
    vendor.lists.always = respond(503, "oops")
    with pytest.raises(EngineUnavailableError):
        await make().start()
    assert vendor.rented == []


async def test_a_wrong_key_is_named_without_being_shown(make: Make) -> None:
    """Even where the service repeats it."""
    with pytest.raises(EngineUnavailableError, match="key") as refused:
        await make(api_key="wrong-key-of-the-tests").start()
    assert "wrong-key-of-the-tests" not in str(refused.value)


async def test_a_destruction_that_fails_is_tried_until_it_succeeds(
    vendor: StandIn, make: Make
) -> None:
    """It costs until then."""
    now = [1000.0]
    engine = make(lambda: now[0], idle_timeout_seconds=60)
    await engine.start()
    vendor.destructions.add(*[respond(500, "oops")] * 7)
    now[0] += 61
    await eventually(lambda: not vendor.boxes)
