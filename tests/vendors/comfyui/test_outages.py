"""A ComfyUI server that cannot be reached for a while, and jobs that are stopped there."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.closing import Stop
from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import run_engine
from atelier_engines.errors import EngineFailedError, EngineTimeoutError
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.config import ServerConfig
from tests.server.calls import eventually
from tests.vendors.calls import outputs, run_task
from tests.vendors.comfyui.state import TASK, StandIn


async def _run_through_an_outage(server: StandIn, *, until: int) -> list[Event]:
    """Run the task; from the first step on the server cannot be reached until it has that many history entries."""

    async def come_back() -> None:
        await eventually(lambda: len(server.history) >= until)
        await asyncio.sleep(0.5)  # longer than the requests of one poll, with all their repetitions
        server.does.down = False

    found: list[Event] = []
    waiting: asyncio.Task[None] | None = None
    server.does.step_seconds = 0.02
    async with run_engine(server) as engine, aclosing(engine.run(TASK)) as events:
        async for event in events:
            found.append(event)
            if event == Stage(name="generate"):
                server.does.down = True
                waiting = asyncio.create_task(come_back())
    assert waiting is not None
    await waiting
    return found


async def test_a_picture_that_is_drawn_during_an_outage_is_fetched_after_it(
    server: StandIn,
) -> None:
    """The server goes on with the job meanwhile."""
    assert outputs(await _run_through_an_outage(server, until=1))
    assert len(server.submitted) == 1
    assert server.asked_to_cancel == []


async def test_a_server_that_was_restarted_meanwhile_has_lost_the_job(server: StandIn) -> None:
    """Its queue and history are empty: that is told from a slow one, and the job may be repeated."""
    server.does.restart_at = 3
    with pytest.raises(EngineFailedError, match="neither its queue nor its history") as lost:
        await _run_through_an_outage(server, until=0)
    assert lost.value.repeatable


async def test_an_outage_that_outlasts_the_deadline_says_so_and_the_job_is_cancelled_later(
    server: StandIn,
) -> None:
    """When the server can be reached again."""
    server.does.held = True
    async with run_engine(server, timeout_seconds=1.5) as engine:
        async with aclosing(engine.run(TASK)) as events:
            while await anext(events) != Stage(name="generate"):
                pass
            server.does.down = True
            with pytest.raises(EngineTimeoutError, match="cannot be reached") as late:
                await anext(events)
        assert not late.value.repeatable
        assert server.deleted == []
        server.does.down = False
        await eventually(lambda: server.deleted == [server.submitted[0]["prompt_id"]])


async def test_a_job_that_still_waits_at_the_deadline_says_so(server: StandIn) -> None:
    """It is not the server that is slow at it."""
    server.does.held, server.does.others = True, 2
    async with run_engine(server, timeout_seconds=0.3) as engine:
        with pytest.raises(EngineTimeoutError, match="waited in its queue, behind 2 others"):
            await run_task(engine, TASK)


@pytest.mark.parametrize("old", [False, True], ids=["jobs API", "queue and interrupt"])
async def test_a_stop_says_what_became_of_the_job(server: StandIn, *, old: bool) -> None:
    """Taken out of the queue, stopped while it ran, or out of reach."""
    server.does.old, server.does.held, server.does.step_seconds = old, True, 0.02
    client = ComfyClient(
        ServerConfig(url=server.url), response_timeout_seconds=2.0, delay_scale=0.01
    )
    async with run_engine(server) as engine:
        task = replace(TASK, steps=100)
        async with aclosing(engine.run(task)) as events:
            async for event in events:
                if isinstance(event, Stage) and event.name == "generate":
                    break  # the next in the queue, which is held
            prompt = server.submitted[-1]["prompt_id"]
            assert await client.stop([prompt]) is Stop.NEVER_STARTED
        server.does.held = False
        async with aclosing(engine.run(task)) as events:
            async for _ in events:
                if server.executing:
                    break
            prompt = server.submitted[-1]["prompt_id"]
            assert await client.stop([prompt]) is Stop.STOPPED
            await eventually(lambda: prompt in server.history)
            assert await client.stop([prompt]) is Stop.STOPPED
            server.cancels.always = respond(503)
            assert await client.stop([prompt]) is Stop.MAY_GO_ON
    await client.close()


async def test_a_job_is_found_again_although_its_order_was_never_confirmed(
    server: StandIn,
) -> None:
    """Its id was stored before it was sent."""
    server.does.step_seconds = 0.02
    async with run_engine(server) as engine:
        handle = ""
        async with aclosing(engine.run(replace(TASK, seeds=(1, 2)))) as events:
            async for event in events:
                if isinstance(event, Dispatched):
                    handle = event.handle
                    assert server.submitted == []
                    break
        assert '"submitted":false' in handle
    server.cancels.clear()
    again = replace(TASK, seeds=(1, 2), resume=handle)
    async with run_engine(server) as engine:
        assert len(outputs(await run_task(engine, again))) == 2
        assert len(server.submitted) == 2
        assert len(outputs(await run_task(engine, again))) == 2
    assert len(server.submitted) == 2, "they were known, and are not submitted again"
