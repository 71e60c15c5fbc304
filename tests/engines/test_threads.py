"""Blocking work streams its events, stops when the caller leaves, and hides nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from atelier_engines.event import Event, Stage, Step
from atelier_engines.threads import Emit, result_from_thread, stream_from_thread

PATIENCE_SECONDS = 300.0
"""A thread whose test has failed ends by then; no test that passes waits for it."""


class Work:
    """Blocking work of many steps that a test can hold and follow."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.held = threading.Event()
        self.ended = threading.Event()
        self.steps = 0

    def __call__(self, emit: Emit) -> None:
        """Emit a stage, wait to be let go, then emit a great many steps."""
        try:
            emit(Stage(name="draw"))
            self.held.set()
            self.go_on.wait(PATIENCE_SECONDS)
            for index in range(1, 1_000_000):
                emit(Step(index=index, total=0))
                self.steps = index
        finally:
            self.ended.set()


async def started(run: AsyncGenerator[Event]) -> None:
    """Wait until the work is under way."""
    assert await anext(run) == Stage(name="draw")


async def test_events_arrive_in_order_and_the_stream_ends_with_the_work() -> None:
    """What the thread emits is what the caller sees."""

    def work(emit: Emit) -> None:
        for index in range(1, 101):
            emit(Step(index=index, total=100))

    async with aclosing(stream_from_thread(work)) as events:
        assert [event async for event in events] == [
            Step(index=index, total=100) for index in range(1, 101)
        ]


async def test_an_exception_of_the_work_travels_to_the_caller_after_its_events() -> None:
    """What was emitted before it is not lost."""

    def work(emit: Emit) -> None:
        emit(Stage(name="draw"))
        raise ValueError("no more paint")

    async with aclosing(stream_from_thread(work)) as events:
        assert await anext(events) == Stage(name="draw")
        with pytest.raises(ValueError, match="no more paint"):
            await anext(events)


async def test_an_exhausted_iterator_in_the_work_does_not_hang_the_caller() -> None:
    """A future refuses StopIteration, and whoever waits for it would wait for ever."""

    def work(emit: Emit) -> None:
        emit(Stage(name="draw"))
        next(iter(()))

    async with asyncio.timeout(300), aclosing(stream_from_thread(work)) as events:
        await anext(events)
        with pytest.raises(RuntimeError, match="exhausted iterator"):
            await anext(events)


async def test_closing_waits_for_the_thread() -> None:
    """The device is idle when the close returns, and not before."""
    work = Work()
    run = stream_from_thread(work)
    await started(run)
    closing = asyncio.create_task(run.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    assert not work.ended.is_set()
    work.go_on.set()
    await closing
    assert work.ended.is_set()


async def test_the_first_emit_after_the_close_unwinds_the_work() -> None:
    """Model code stops at its next step, whatever it catches."""
    seen: list[str] = []
    held, go_on = threading.Event(), threading.Event()

    def work(emit: Emit) -> None:
        emit(Stage(name="draw"))
        held.set()
        go_on.wait(PATIENCE_SECONDS)
        try:
            emit(Stage(name="too_late"))
            seen.append("went on")
        except Exception:  # noqa: BLE001 (as careless model code does)
            seen.append("swallowed")
        finally:
            seen.append("unwound")

    run = stream_from_thread(work)
    await started(run)
    closing = asyncio.create_task(run.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    assert seen == ["unwound"]


async def test_cancelling_the_close_again_and_again_does_not_free_the_device_early() -> None:
    """However impatient the caller, the thread is waited for; then the cancellation goes on."""
    work = Work()

    async def consume() -> None:
        async with aclosing(stream_from_thread(work)) as events:
            async for _ in events:
                pass

    consumer = asyncio.create_task(consume())
    await asyncio.to_thread(work.held.wait, PATIENCE_SECONDS)
    for _ in range(5):
        consumer.cancel()
        await asyncio.sleep(0.001)
        assert not consumer.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert work.ended.is_set()
    assert work.steps == 0


async def test_work_that_waits_for_a_thread_is_not_begun_after_the_close() -> None:
    """A run that is closed before its thread is free does nothing at all."""
    begun = threading.Event()
    busy = Work()

    def never(emit: Emit) -> None:
        begun.set()
        emit(Stage(name="draw"))

    with ThreadPoolExecutor(max_workers=1) as executor:
        first = stream_from_thread(busy, executor=executor)
        await started(first)
        second = stream_from_thread(never, executor=executor)
        waiting = asyncio.create_task(anext(second))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        busy.go_on.set()
        await first.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not begun.is_set()


async def test_the_work_sees_the_context_of_its_caller() -> None:
    """A generation's id, set around a run, stands in what its thread logs."""
    generation = contextvars.ContextVar("generation", default="none")
    generation.set("g-7")

    def work(emit: Emit) -> None:
        emit(Stage(name=generation.get()))

    async with aclosing(stream_from_thread(work)) as events:
        assert [event async for event in events] == [Stage(name="g-7")]
    assert await result_from_thread(generation.get) == "g-7"


async def test_a_result_comes_back_and_so_does_an_exception() -> None:
    """Short work needs no events."""

    def fail() -> int:
        raise ValueError("no more paint")

    assert await result_from_thread(lambda: 7) == 7
    with pytest.raises(ValueError, match="no more paint"):
        await result_from_thread(fail)


async def test_a_cancelled_wait_for_a_result_lasts_until_the_thread_is_done() -> None:
    """Short work cannot be stopped, so it is waited for."""
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(PATIENCE_SECONDS)
        ended.set()

    waiting = asyncio.create_task(result_from_thread(work))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()
