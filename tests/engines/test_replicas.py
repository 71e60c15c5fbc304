"""One engine with several instances: which one gets a task, and what is not repeated on another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pytest

from atelier_engines.capabilities import Capabilities, ImageCapabilities, IntegerRange
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    EngineUncertainError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask, Task
from atelier_engines.wrappers.replica_handle import ReplicaHandle
from atelier_engines.wrappers.replicas import ReplicatedEngine
from tests.server.calls import eventually

TASK = ImageTask(prompt="a boat", width=64, height=64, seeds=(7,))
_SIDE = IntegerRange(min=64, max=64, default=64)
_CAPABILITIES = Capabilities(
    description="instance", image=ImageCapabilities(width=_SIDE, height=_SIDE, max_pixels=64 * 64)
)


@dataclass(eq=False)
class Instance:
    """Runs tasks once `go` is set, and raises what it is told to at a check or after an order."""

    faults: deque[EngineError] = field(default_factory=deque)
    check_fault: EngineError | None = None
    orders: int = 1
    go: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[Task] = field(default_factory=list)
    capabilities: Capabilities = _CAPABILITIES

    async def start(self) -> None:
        """Start."""

    async def check(self) -> None:
        """Raise the fault, if there is one."""
        if self.check_fault is not None:
            raise self.check_fault

    async def stop(self) -> None:
        """Stop."""

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """Order, wait, and make an image."""
        self.tasks.append(task)
        yield Stage(name="submit")
        for _ in range(self.orders):
            yield Dispatched(handle="job 1")
        if self.faults:
            raise self.faults.popleft()
        await self.go.wait()
        yield Output(media=Encoded(media_type="image/png", data=b"data"), seed=7)


@pytest.fixture
def instances() -> dict[str, Instance]:
    """Two that work at once."""
    made = {"one": Instance(), "two": Instance()}
    for instance in made.values():
        instance.go.set()
    return made


async def started(instances: dict[str, Instance]) -> ReplicatedEngine:
    """The engine, started."""
    engine = ReplicatedEngine(instances, pause_seconds=0.001)
    await engine.start()
    return engine


async def run(engine: ReplicatedEngine, task: Task = TASK) -> list[Event]:
    """All events of the task."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


def counts(instances: dict[str, Instance]) -> list[int]:
    """How many tasks each was given."""
    return [len(instance.tasks) for instance in instances.values()]


async def test_idle_instances_take_turns_and_are_named(instances: dict[str, Instance]) -> None:
    """In every stage, and in the handle."""
    engine = await started(instances)
    assert engine.capabilities.concurrency == 2
    first = await run(engine)
    assert first[0] == Stage(name="submit", replica="one")
    assert first[1] == Dispatched(handle='{"replica":"one","job":"job 1"}')
    await run(engine)
    assert counts(instances) == [1, 1]


async def test_a_task_waits_until_an_instance_is_free(instances: dict[str, Instance]) -> None:
    """None gets more than its concurrency; the place that is free first is taken."""
    engine = await started(instances)
    for instance in instances.values():
        instance.go.clear()
    running = [asyncio.create_task(run(engine)) for _ in range(3)]
    await eventually(lambda: sum(counts(instances)) == 2)
    assert counts(instances) == [1, 1]
    instances["two"].go.set()
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    await eventually(lambda: sum(counts(instances)) == 3)
    assert counts(instances) == [1, 2]
    instances["one"].go.set()
    await asyncio.gather(*running)


async def test_what_an_instance_did_not_begin_goes_to_the_next(
    instances: dict[str, Instance],
) -> None:
    """The first is then left out until a check finds no fault."""
    engine = await started(instances)
    instances["one"].faults.append(EngineUnavailableError("full"))
    instances["one"].check_fault = EngineUnavailableError("full")
    events = await run(engine)
    assert [event.replica for event in events if isinstance(event, Stage)] == ["one", "two"]
    await run(engine)
    await engine.check()
    await run(engine)
    assert counts(instances) == [1, 3]
    instances["one"].check_fault = None
    await engine.check()
    await run(engine)
    await run(engine)
    assert counts(instances) == [2, 4]


@pytest.mark.parametrize(
    ("error", "orders"), [(EngineFailedError("broken"), 1), (EngineUnavailableError("full"), 2)]
)
async def test_what_was_begun_is_not_repeated_on_another(
    instances: dict[str, Instance], error: EngineError, orders: int
) -> None:
    """That is for the fallbacks of the engine to decide; the instance is left out all the same."""
    engine = await started(instances)
    instances["one"].faults.append(error)
    instances["one"].orders = orders
    with pytest.raises(type(error)):
        await run(engine)
    await run(engine)
    await run(engine)
    assert counts(instances) == [1, 2]


async def test_without_an_instance_that_works_it_is_unavailable(
    instances: dict[str, Instance],
) -> None:
    """One is enough for the start."""
    instances["one"].check_fault = EngineUnavailableError("down")
    engine = await started(instances)
    await run(engine)
    assert counts(instances) == [0, 1]
    instances["two"].check_fault = EngineUnavailableError("down too")
    with pytest.raises(EngineUnavailableError, match="down"):
        await engine.check()
    with pytest.raises(EngineUnavailableError, match="no instance"):
        await run(engine)


async def test_a_job_is_resumed_where_it_was_ordered(instances: dict[str, Instance]) -> None:
    """Also while that instance gets no new tasks."""
    engine = await started(instances)
    instances["two"].check_fault = EngineUnavailableError("busy")
    await engine.check()
    await run(engine, replace(TASK, resume='{"replica":"two","job":"job 9"}'))
    assert counts(instances) == [0, 1]
    (resumed,) = instances["two"].tasks
    assert resumed.resume == "job 9"


@pytest.mark.parametrize("handle", ["job 9", '{"replica":"three","job":"job 9"}'])
async def test_a_job_of_an_unknown_instance_is_not_ordered_again(
    instances: dict[str, Instance], handle: str
) -> None:
    """The configuration has changed; it may have been paid for."""
    engine = await started(instances)
    with pytest.raises(EngineUncertainError):
        await run(engine, replace(TASK, resume=handle))
    assert counts(instances) == [0, 0]


async def test_addresses_are_logged_without_their_passwords(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When an instance begins to work, when it does not, and when its job is lost."""
    caplog.set_level("INFO")
    instance = Instance()
    engine = await started({"http://me:secret@a.example": instance})
    instance.check_fault = EngineUnavailableError("down")
    with pytest.raises(EngineUnavailableError):
        await engine.check()
    resumed = replace(
        TASK, resume=ReplicaHandle(replica="http://me:secret@b", job="1").model_dump_json()
    )
    with pytest.raises(EngineUncertainError, match="the instance http://b, which has the job"):
        await run(engine, resumed)
    told = [vars(record).get("replica") for record in caplog.records]
    assert told == ["http://a.example", "http://a.example"]
