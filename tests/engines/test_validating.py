"""Whatever an engine does wrong, the guard turns into one error that callers understand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from atelier_engines.capabilities import Capabilities, ImageCapabilities, IntegerRange
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    ContentFilteredError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
)
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask, Task
from atelier_engines.validation import ValidatingEngine

SIDE = IntegerRange(min=64, max=128, default=64, multiple_of=64)
TASK = ImageTask(prompt="a boat", width=64, height=64, seeds=(7,))
OUTPUT = Output(media=Encoded(media_type="image/png", data=b"png", width=64, height=64), seed=7)


@dataclass
class Plain:
    """An honest engine that yields what it is given; the broken ones below derive from it."""

    events: tuple[Event, ...] = (Stage(name="draw"), Step(index=1, total=1), OUTPUT)
    begun: int = 0
    closed: int = 0
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(
            description="Plain",
            image=ImageCapabilities(width=SIDE, height=SIDE, max_pixels=64 * 64),
        )
    )

    async def start(self) -> None:
        """Nothing to load."""

    async def check(self) -> None:
        """Always able."""

    async def stop(self) -> None:
        """Nothing to give back."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Yield the events."""
        assert isinstance(task, ImageTask)
        self.begun += 1
        try:
            for event in self.events:
                yield event
        finally:
            self.closed += 1


class Raising(Plain):
    """Fails half way, at the start and at the check with an error of its own."""

    error: BaseException = ValueError("cuda: launch failed in /home/us/secret.cu")

    async def start(self) -> None:
        """Fail."""
        raise self.error

    async def check(self) -> None:
        """Fail."""
        raise self.error

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Fail after the first event."""
        async with aclosing(super().run(task)) as events:
            yield await anext(events)
            raise self.error


class Typed(Raising):
    """Fails with an error of the tree."""

    error = ContentFilteredError("the prompt was refused")


class Cancelling(Raising):
    """Raises a cancellation that nobody asked for, as a library of futures does."""

    error: BaseException = asyncio.CancelledError()

    async def stop(self) -> None:
        """Fail."""
        raise self.error


class Exiting(Cancelling):
    """Asks for the end of the process, as a program made into a library does."""

    error = SystemExit(1)


class Unloadable(Raising):
    """Cannot start, and says why."""

    error = ModelMissingError("no weights in models/sdxl")


async def events_of(engine: Engine, task: Task = TASK) -> list[Event]:
    """Everything the guarded engine yields."""
    async with aclosing(ValidatingEngine(engine).run(task)) as events:
        return [event async for event in events]


async def test_the_events_of_a_correct_engine_are_unchanged() -> None:
    """The guard adds nothing and takes nothing away."""
    engine = Plain()
    assert await events_of(engine) == list(engine.events)
    assert ValidatingEngine(engine).capabilities == engine.capabilities


async def test_a_task_outside_the_limits_never_reaches_the_engine() -> None:
    """It is refused before any work, in words that say what to change."""
    engine = Plain()
    with pytest.raises(InvalidTaskError, match="width must be 64 to 128, not 4096") as refused:
        await events_of(engine, ImageTask(prompt="", width=4096, height=64, seeds=(1,)))
    assert refused.value.field == "width"
    assert engine.begun == 0


@pytest.mark.parametrize("second", [1, 2])
async def test_steps_that_do_not_increase_are_a_failure(second: int) -> None:
    """Steps only ever count up; the engine's work is closed."""
    engine = Plain((Step(index=2, total=3), Step(index=second, total=3), OUTPUT))
    with pytest.raises(EngineFailedError, match=f"from step 2 to {second}"):
        await events_of(engine)
    assert engine.closed == 1


async def test_an_engine_that_ends_without_an_output_has_failed() -> None:
    """Success without a result is none."""
    with pytest.raises(EngineFailedError, match="without an output"):
        await events_of(Plain((Stage(name="draw"), Step(index=1, total=1))))


async def test_an_unexpected_exception_is_hidden_from_the_caller_and_kept_as_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log has its text and traceback; the caller learns that the engine failed."""
    with pytest.raises(EngineFailedError) as failed:
        await events_of(Raising())
    assert "secret" not in str(failed.value)
    assert failed.value.__cause__ is Raising.error
    assert "secret" in caplog.text


async def test_an_engine_error_is_not_changed() -> None:
    """Engines that say what is wrong are believed."""
    with pytest.raises(ContentFilteredError, match="the prompt was refused"):
        await events_of(Typed())


async def test_an_unexpected_exception_of_start_or_check_means_unavailable() -> None:
    """Nothing above needs to know foreign exceptions."""
    with pytest.raises(EngineUnavailableError, match="start raised"):
        await ValidatingEngine(Raising()).start()
    with pytest.raises(EngineUnavailableError, match="check raised"):
        await ValidatingEngine(Raising()).check()
    with pytest.raises(ModelMissingError, match="models/sdxl"):
        await ValidatingEngine(Unloadable()).start()


@pytest.mark.parametrize("engine", [Cancelling(), Exiting()])
async def test_a_cancellation_or_an_exit_of_its_own_is_a_failure(engine: Raising) -> None:
    """Of every call: neither ends what calls the engine."""
    with pytest.raises(EngineFailedError, match="unexpected exception") as failed:
        await events_of(engine)
    assert failed.value.__cause__ is engine.error
    guarded = ValidatingEngine(engine)
    for call in (guarded.start, guarded.check, guarded.stop):
        with pytest.raises(EngineUnavailableError, match="raised an unexpected exception"):
            await call()


async def test_a_cancellation_that_was_asked_for_stays_one() -> None:
    """The task of the caller ends as cancelled."""

    class Waiting(Plain):
        async def run(self, task: Task) -> AsyncGenerator[Event]:
            async with aclosing(super().run(task)) as events:
                yield await anext(events)
                await asyncio.Event().wait()

    running = asyncio.create_task(events_of(Waiting()))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()


async def test_closing_the_wrapper_closes_the_run_of_the_engine() -> None:
    """The engine is closed when the caller's close returns, not some time later."""
    engine = Plain()
    async with aclosing(ValidatingEngine(engine).run(TASK)) as events:
        await anext(events)
        assert engine.closed == 0
    assert engine.closed == 1
