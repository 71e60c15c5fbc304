"""Tests that closing a run stops its work, and that concurrent runs are independent."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import pytest

from atelier_engines.capabilities import CancelSupport
from atelier_engines.conformance import tasks
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest, media_bytes
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Step
from atelier_engines.task import ImageTask, Task

_MAX_CONCURRENT_RUNS = 8


class CancellationConformance(ConformanceFixtures):
    """The tests of cancellation and concurrency."""

    def test_closing_a_run_returns_and_the_next_one_works(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """Whether it is closed before the first event, after it, or after the first step."""
        long = _with_max_steps(subject, task)
        for events_taken in (0, 1, 2, 3):
            subject.wait(_close_after(subject.engine, long, events_taken))
        assert subject.outputs(task)

    def test_cancelling_the_caller_ends_the_work(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """CancelledError is propagated, no asyncio task is left, and the next run works."""
        leftovers = subject.wait(
            _cancel_in_the_middle(subject.engine, _with_max_steps(subject, task))
        )
        assert leftovers == set()
        assert subject.outputs(task)

    def test_it_runs_as_many_tasks_at_once_as_it_claims(
        self, subject: EngineUnderTest, task: Task
    ) -> None:
        """All have begun before any is done, and each has the result that it has alone."""
        at_once = min(subject.capabilities.concurrency, _MAX_CONCURRENT_RUNS)
        if at_once == 1:
            pytest.skip("it runs one task at a time")
        alone = subject.outputs(task)
        together = subject.wait(_run_interleaved(subject.engine, task, at_once))
        assert all(len(outputs) == len(alone) for outputs in together)
        if subject.bit_exact:
            assert [list(map(media_bytes, outputs)) for outputs in together] == (
                [list(map(media_bytes, alone))] * at_once
            )


def _with_max_steps(subject: EngineUnderTest, task: Task) -> Task:
    """The task with the maximum number of steps where cancelling stops it: a run that continues would time out."""
    capabilities = subject.capabilities
    if capabilities.cancel is not CancelSupport.STEP:
        return task
    if isinstance(task, ImageTask):
        return tasks.many_steps(task, capabilities.image.steps if capabilities.image else None)
    return tasks.many_steps(task, capabilities.audio.steps if capabilities.audio else None)


async def _close_after(engine: Engine, task: Task, events_taken: int) -> None:
    async with aclosing(engine.run(task)) as events:
        for _ in range(events_taken):
            await anext(events)


async def _cancel_in_the_middle(engine: Engine, task: Task) -> set[asyncio.Task[object]]:
    begun = asyncio.Event()
    before = asyncio.all_tasks()

    async def consume() -> None:
        async with aclosing(engine.run(task)) as events:
            async for _ in events:
                begun.set()

    consumer = asyncio.create_task(consume())
    await begun.wait()
    consumer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await consumer
    assert consumer.cancelled() or consumer.exception() is None
    return asyncio.all_tasks() - before


async def _run_interleaved(engine: Engine, task: Task, at_once: int) -> list[list[Output]]:
    async with AsyncExitStack() as stack:
        runs = [await stack.enter_async_context(aclosing(engine.run(task))) for _ in range(at_once)]
        early = await asyncio.gather(*(_until_a_step(run) for run in runs))
        late = await asyncio.gather(*(_rest(run) for run in reversed(runs)))
    return [
        [event for event in (*first, *last) if isinstance(event, Output)]
        for first, last in zip(early, reversed(late), strict=True)
    ]


async def _until_a_step(run: AsyncGenerator[Event]) -> list[Event]:
    events = []
    async for event in run:
        events.append(event)
        if isinstance(event, Step | Output):
            break
    return events


async def _rest(run: AsyncGenerator[Event]) -> list[Event]:
    return [event async for event in run]
