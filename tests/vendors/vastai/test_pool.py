"""Several instances of one engine, by load."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

from atelier_engines.event import Dispatched, Output
from atelier_engines.vendors.vastai.engine import VastaiEngine
from tests.vendors.calls import run_task
from tests.vendors.vastai.conftest import Make
from tests.vendors.vastai.stand_in import StandIn
from tests.vendors.vastai.test_renting import SLOW, TASK, eventually


async def hold(engine: VastaiEngine, begun: asyncio.Event, end: asyncio.Event) -> None:
    """Run a long task until it is to end."""
    async with aclosing(engine.run(SLOW)) as events:
        async for event in events:
            if isinstance(event, Dispatched):
                begun.set()
                await end.wait()
                return


async def test_another_instance_is_rented_for_tasks_that_find_no_place(
    vendor: StandIn, make: Make
) -> None:
    """And no more than the maximum; what is idle is destroyed, the other one is kept."""
    now = [1000.0]
    engine = make(lambda: now[0], concurrency=1, max_instances=2, idle_timeout_seconds=60)
    await engine.start()
    assert engine.capabilities.concurrency == 2
    assert len(vendor.rented) == 1
    begun, end = asyncio.Event(), asyncio.Event()
    held = asyncio.create_task(hold(engine, begun, end))
    await begun.wait()
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    assert len(vendor.instances) == 2
    first = vendor.rented[0].id
    now[0] += 61
    await eventually(lambda: len(vendor.instances) == 1)
    assert set(vendor.instances) == {first}
    end.set()
    await held
    await engine.stop()
    assert vendor.instances == {}


async def test_tasks_that_one_instance_can_take_rent_no_other(vendor: StandIn, make: Make) -> None:
    """Two at once on one that runs two."""
    engine = make(concurrency=2, max_instances=3)
    await engine.start()
    await asyncio.gather(*(run_task(engine, replace(TASK, seeds=(seed,))) for seed in (1, 2)))
    assert len(vendor.rented) == 1
