"""The thread of a device leaves a task as soon as its caller does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

from atelier_engines.event import Event, Stage
from atelier_engines.local.step_scheduler import FairBatcher, StepCoroutine, StepScheduler
from atelier_engines.threads import Emit

PATIENCE_SECONDS = 300.0


class Work:
    """What one task does between two runs of the model; the test holds it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def start(self, emit: Emit) -> list[StepCoroutine[Any, Any]]:
        """See StartTask."""
        return [self._coroutine(emit)]

    def _coroutine(self, emit: Emit) -> StepCoroutine[Any, Any]:
        emit(Stage(name="wait"))
        yield None
        self.begun.set()
        self.go_on.wait(PATIENCE_SECONDS)
        emit(Stage(name="done"))


@pytest.fixture
async def scheduler() -> AsyncGenerator[StepScheduler[Any, Any]]:
    """A started one, without a model."""
    made: StepScheduler[Any, Any] = StepScheduler("test")
    await made.call(partial(made.configure, lambda _: (), FairBatcher(lambda *_: 1)))
    yield made
    await made.stop()


async def test_a_task_that_is_closed_while_another_works_does_nothing_more(
    scheduler: StepScheduler[Any, Any],
) -> None:
    """It is left before its own work of that step, not after it."""
    works = [Work(), Work()]
    streams = [scheduler.stream(work.start) for work in works]
    async with aclosing(streams[0]), aclosing(streams[1]):
        together = threading.Event()
        held = asyncio.create_task(scheduler.call(partial(together.wait, PATIENCE_SECONDS)))
        await asyncio.sleep(0)
        first = [asyncio.create_task(_next(stream)) for stream in streams]
        await asyncio.sleep(0)
        together.set()
        await held
        assert await asyncio.gather(*first) == [Stage(name="wait")] * 2
        while not any(work.begun.is_set() for work in works):  # noqa: ASYNC110 (set in a thread)
            await asyncio.sleep(0.01)
        busy = 0 if works[0].begun.is_set() else 1
        other = 1 - busy
        works[other].go_on.set()
        closing = asyncio.create_task(_close(streams[other]))
        await asyncio.sleep(0.1)
        works[busy].go_on.set()
        await closing
        assert await anext(streams[busy]) == Stage(name="done")
    assert not works[other].begun.is_set()


async def _next(stream: AsyncGenerator[Event]) -> Event:
    return await anext(stream)


async def _close(stream: AsyncGenerator[Event]) -> None:
    await stream.aclose()
