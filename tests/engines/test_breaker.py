"""The circuit breaker opens, rests, tries once and closes again."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
    TaskFailedError,
    UnsupportedError,
)
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask, Task
from atelier_engines.wrappers.breaker import BreakerEngine

TASK = ImageTask(prompt="a boat", width=64, height=64, seeds=(7,))
FAULT = EngineFailedError("it failed")


@dataclass
class ScriptedEngine:
    """Raises what it is told to, in order; then it works."""

    errors: deque[EngineError] = field(default_factory=deque)
    steps: bool = False
    begun: int = 0
    checked: int = 0
    running: set[str] = field(default_factory=set)
    capabilities: Capabilities = field(
        default_factory=lambda: Capabilities(description="ScriptedEngine")
    )

    async def start(self) -> None:
        """Run."""
        self.running.add("started")

    async def stop(self) -> None:
        """Stop."""
        self.running.clear()

    async def check(self) -> None:
        """Count."""
        self.checked += 1

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Fail or work."""
        assert isinstance(task, ImageTask)
        self.begun += 1
        error = self.errors.popleft() if self.errors else None
        yield Stage(name="draw")
        if self.steps:
            yield Step(index=1, total=2)
        if error is not None:
            raise error
        yield Output(media=Encoded(media_type="image/png", data=b""), seed=7)


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@dataclass
class Subject:
    """A breaker that opens after three faults and rests ten seconds."""

    inner: ScriptedEngine = field(default_factory=ScriptedEngine)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.breaker = BreakerEngine(
            inner=self.inner, failure_threshold=3, reset_timeout_seconds=10.0, clock=self.clock
        )

    async def work(self) -> list[Event]:
        """One task."""
        async with aclosing(self.breaker.run(TASK)) as events:
            return [event async for event in events]

    async def fail(self, *errors: EngineError) -> None:
        """One task for each, which fails so."""
        for error in errors:
            self.inner.errors.append(error)
            with pytest.raises(type(error)):
                await self.work()

    async def refused(self) -> EngineUnavailableError:
        """How a task is refused that does not reach the engine."""
        before = self.inner.begun
        with pytest.raises(EngineUnavailableError, match="circuit breaker open") as error:
            await self.work()
        assert self.inner.begun == before
        return error.value


@pytest.fixture
def subject() -> Subject:
    """A new one."""
    return Subject()


async def test_it_opens_after_consecutive_failures(subject: Subject) -> None:
    """Then tasks are refused without reaching the engine, and told when to come back."""
    await subject.fail(FAULT, EngineTimeoutError("slow"), EngineUncertainError("?"))
    subject.clock.now += 4
    assert (await subject.refused()).retry_after_seconds == 6.0


async def test_its_check_fails_while_it_is_open(subject: Subject) -> None:
    """Without bothering the engine; health shows it."""
    await subject.breaker.check()
    await subject.fail(FAULT, FAULT, FAULT)
    with pytest.raises(EngineUnavailableError, match="circuit breaker open after 3 failures"):
        await subject.breaker.check()
    assert subject.inner.checked == 1


async def test_a_success_between_failures_keeps_it_closed(subject: Subject) -> None:
    """Only faults in a row count."""
    for _ in range(3):
        await subject.fail(FAULT, EngineUnavailableError("down"))
        assert await subject.work()


@pytest.mark.parametrize(
    "error",
    [
        InvalidTaskError("width", "too wide"),
        UnsupportedError("LORA", "none"),
        ContentFilteredError("refused"),
        TaskFailedError("the LoRA overflows"),
        JobStoppedError("cancelled at the service"),
        OutOfMemoryError("too large"),
        ModelMissingError("no weights"),
        EngineQuotaError("no credit"),
    ],
)
async def test_errors_of_the_task_do_not_count(subject: Subject, error: EngineError) -> None:
    """They neither open it nor make earlier faults forgotten."""
    await subject.fail(error, error, error, error)
    await subject.fail(FAULT, FAULT, error, FAULT)
    await subject.refused()


async def test_a_timeout_counts_only_where_the_work_did_not_advance(subject: Subject) -> None:
    """A task that made steps was too large for the time allowed; without one the engine may hang."""
    late = EngineTimeoutError("slow")
    subject.inner.steps = True
    await subject.fail(late, late, late, late)
    subject.inner.steps = False
    await subject.fail(late, late, late)
    await subject.refused()


async def test_a_successful_probe_closes_it(subject: Subject) -> None:
    """As if nothing had been."""
    await subject.fail(FAULT, FAULT, FAULT)
    subject.clock.now += 10
    await subject.breaker.check()
    assert await subject.work()
    await subject.fail(FAULT, FAULT)
    assert await subject.work()


async def test_a_failed_probe_restarts_the_timeout(subject: Subject) -> None:
    """For the whole time."""
    await subject.fail(FAULT, FAULT, FAULT)
    subject.clock.now += 10
    await subject.fail(FAULT)
    subject.clock.now += 9
    await subject.refused()


async def test_only_one_task_probes_at_a_time(subject: Subject) -> None:
    """The others would all fail with it."""
    await subject.fail(FAULT, FAULT, FAULT)
    subject.clock.now += 10
    async with aclosing(subject.breaker.run(TASK)) as trying:
        await anext(trying)
        assert (await subject.refused()).retry_after_seconds == 1.0
        assert [event async for event in trying]
    assert await subject.work()


@pytest.mark.parametrize("end", ["closed", "filtered"])
async def test_an_inconclusive_probe_lets_the_next_task_probe(subject: Subject, end: str) -> None:
    """Its caller left, or its task was to blame."""
    await subject.fail(FAULT, FAULT, FAULT)
    subject.clock.now += 10
    if end == "closed":
        async with aclosing(subject.breaker.run(TASK)) as trying:
            await anext(trying)
    else:
        await subject.fail(ContentFilteredError("refused"))
    assert await subject.work()


async def test_running_tasks_continue_when_it_opens(subject: Subject) -> None:
    """And their success closes it."""
    async with aclosing(subject.breaker.run(TASK)) as early:
        await anext(early)
        await subject.fail(FAULT, FAULT, FAULT)
        await subject.refused()
        assert [event async for event in early]
    assert await subject.work()


async def test_everything_else_is_delegated_to_the_engine(subject: Subject) -> None:
    """Start, stop and capabilities."""
    await subject.breaker.start()
    assert subject.inner.running
    assert subject.breaker.capabilities is subject.inner.capabilities
    await subject.breaker.stop()
    assert not subject.inner.running
