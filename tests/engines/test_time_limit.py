"""The time limit of an engine: it stops what runs longer, and changes nothing else."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.capabilities import CancelSupport, Capabilities
from atelier_engines.errors import EngineTimeoutError, TaskTimeoutError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.sketch import ENGINE
from atelier_engines.task import ImageTask, Task
from atelier_engines.validation import ValidatingEngine
from atelier_engines.wrappers.time_limit import TimeLimitEngine

TASK = ImageTask(prompt="a boat", width=64, height=64, seeds=(7,), steps=2, guidance=5.0)


class Remote:
    """Waits for ever, as a service may; it notes that it was closed."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.closed = asyncio.Event()
        self.error = error
        self.capabilities = Capabilities(description="remote", cancel=CancelSupport.NONE)

    async def start(self) -> None:
        """Start."""

    async def check(self) -> None:
        """Check."""

    async def stop(self) -> None:
        """Stop."""

    async def run(self, _: Task) -> object:
        """Wait."""
        try:
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.closed.set()
        yield None


async def events_within(
    seconds: float, task: ImageTask = TASK, *, hang: bool = False, delay_seconds: float = 0.0
) -> list[Event]:
    """The events of a task of the sketch engine, in its validation as in a server."""
    engine = ENGINE.create(ENGINE.config(hang=hang, delay_seconds=delay_seconds))
    await engine.start()
    limited = TimeLimitEngine(inner=ValidatingEngine(engine), seconds=seconds)
    async with aclosing(limited.run(task)) as events:
        return [event async for event in events]


async def test_a_task_that_ends_in_time_is_unchanged() -> None:
    """All of its events come."""
    events = await events_within(3600)
    assert [type(event) for event in events] == [Stage, Step, Step, Output]


async def test_a_task_that_takes_longer_is_stopped_and_may_run_elsewhere() -> None:
    """It was stopped here, so that a fallback may do it."""
    with pytest.raises(TaskTimeoutError, match=r"longer than 0\.05 s, the limit") as error:
        await events_within(0.05, hang=True)
    assert error.value.repeatable


async def test_the_limit_is_of_the_whole_task() -> None:
    """Not of the time between two of its events."""
    with pytest.raises(TaskTimeoutError):
        await events_within(0.2, replace(TASK, steps=1000), delay_seconds=20)


async def test_what_goes_on_at_a_service_is_not_repeated() -> None:
    """The run is closed all the same."""
    remote = Remote()
    limited = TimeLimitEngine(inner=remote, seconds=0.05)  # type: ignore[arg-type]  # yields no event
    with pytest.raises(EngineTimeoutError, match="may still be running") as error:
        await anext(limited.run(TASK))
    assert not error.value.repeatable
    assert remote.closed.is_set()


async def test_a_timeout_of_the_engine_itself_is_not_its_limit() -> None:
    """Such as one of a library."""
    limited = TimeLimitEngine(inner=Remote(TimeoutError("mine")), seconds=3600)  # type: ignore[arg-type]  # see above
    with pytest.raises(TimeoutError, match="mine"):
        await anext(limited.run(TASK))
