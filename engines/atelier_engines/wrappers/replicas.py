"""One engine with several equal instances: each task runs on the one with the lowest load, of those that work."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from atelier_engines import validation
from atelier_engines.addresses import hide_secrets
from atelier_engines.capabilities import Capabilities
from atelier_engines.closing import naming_left
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.task import Task
from atelier_engines.wrappers.replica_handle import ReplicaHandle

_log = logging.getLogger(__name__)
_RESUME_SECONDS = 300.0
"""For an instance to answer that has a job of an earlier process."""
_RETRY_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class _Replica:
    """One instance."""

    address: str
    engine: Engine
    started: bool = False
    working: bool = False
    """Whether it is given tasks: it was started, and its last check and task found no fault."""
    running: int = 0

    @property
    def load(self) -> float:
        """Fraction of its concurrency that is used."""
        return self.running / self.engine.capabilities.concurrency

    async def examine(self) -> EngineError | None:
        """Start or check it; why it does not work."""
        try:
            if not self.started:
                await self.engine.start()
                self.started = True
            await self.engine.check()
        except EngineError as error:
            self.mark(working=False, error=error)
            return error
        self.mark(working=True)
        return None

    def mark(self, *, working: bool, error: EngineError | None = None) -> None:
        """Give it tasks from now on, or none; changes are logged."""
        if working and not self.working:
            _log.info("replica_ready", extra={"replica": hide_secrets(self.address)})
        elif self.working and not working:
            _log.warning(
                "replica_unavailable",
                extra={"replica": hide_secrets(self.address), "error": str(error)},
            )
        self.working = working


@dataclass(slots=True, eq=False)
class ReplicatedEngine:
    """Runs tasks on several engines of one type, each at an address of its own.

    Its capabilities are those of the first instance that was started, with the concurrency of all. An instance with a
    fault gets no more tasks until a check, or for one that was never started a start, succeeds. The job of an earlier
    process is looked for where it was ordered.
    """

    engines: Mapping[str, Engine]
    """The engines by their addresses, in the order of preference."""
    pause_seconds: float = _RETRY_SECONDS
    """Between attempts to reach an instance that has a job; tests make it small."""
    _replicas: tuple[_Replica, ...] = ()
    _freed: asyncio.Event = field(default_factory=asyncio.Event)
    _turns: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Start nothing yet."""
        self._replicas = tuple(_Replica(*item) for item in self.engines.items())

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        first = next((one for one in self._replicas if one.started), self._replicas[0])
        concurrency = sum(one.engine.capabilities.concurrency for one in self._replicas)
        return replace(first.engine.capabilities, concurrency=concurrency)

    async def start(self) -> None:
        """See Engine.start. One instance is enough; the others are tried again at each check."""
        await self._examine()

    async def check(self) -> None:
        """See Engine.check. Each instance is checked; one that works is enough."""
        await self._examine()

    async def stop(self) -> None:
        """See Engine.stop."""
        for one in self._replicas:
            one.started = one.working = False
            await one.engine.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Tasks wait for a free place; one that an instance did not begin goes to the next.

        Raises:
            EngineUnavailableError: no instance works.
            EngineUncertainError: the instance that has the job is no longer configured.
            EngineTimeoutError: the instance that has the job cannot be reached.
            EngineError: as the engine of the instance.
        """
        if task.resume:
            async with aclosing(self._resume(task)) as events:
                async for event in events:
                    yield event
            return
        tried: set[str] = set()
        while True:
            chosen = await self._choose(task, tried)
            tried.add(chosen.address)
            begun = 0
            try:
                async with aclosing(_run_on(chosen, task, self._freed)) as events:
                    async for event in events:
                        begun += isinstance(event, Dispatched) + 2 * isinstance(event, Output)
                        yield event
            except EngineUnavailableError:
                if begun > 1 or not self._find_working(tried):
                    raise
            else:
                return

    async def _resume(self, task: Task) -> AsyncGenerator[Event]:
        handle = ReplicaHandle.parse(task.resume)
        found = next((one for one in self._replicas if one.address == handle.replica), None)
        if found is None:
            shown = hide_secrets(handle.replica)
            msg = f"the instance {shown}, which has the job, is no longer among `replicas`"
            raise EngineUncertainError(msg)
        await self._wait_started(found)
        resumed = replace(task, resume=handle.job)
        async with aclosing(_run_on(found, resumed, self._freed)) as events:
            async for event in events:
                yield event

    async def _wait_started(self, wanted: _Replica) -> None:
        """Wait until the instance was started once: from then on its engine itself waits for it."""
        try:
            async with asyncio.timeout(_RESUME_SECONDS):
                while True:
                    if wanted.started or await wanted.examine() is None:
                        return
                    await asyncio.sleep(self.pause_seconds)
        except TimeoutError as error:
            msg = (
                f"the instance {hide_secrets(wanted.address)}, which has the job, cannot be reached; "
                "it may still be working on the task"
            )
            raise EngineTimeoutError(msg) from error

    async def _choose(self, task: Task, tried: set[str]) -> _Replica:
        """The instance with the lowest load of those that work and can do the task; equal ones take turns."""
        while True:
            able = [
                one
                for one in self._find_working(tried)
                if next(validation.violations(one.engine.capabilities, task), None) is None
            ]
            if not able:
                raise EngineUnavailableError("no instance that can do the task works now")
            lowest = min(one.load for one in able)
            if lowest < 1:
                free = [one for one in able if one.load == lowest]
                return free[next(self._turns) % len(free)]
            self._freed.clear()
            await self._freed.wait()

    def _find_working(self, tried: set[str]) -> list[_Replica]:
        return [one for one in self._replicas if one.working and one.address not in tried]

    async def _examine(self) -> None:
        """Start or check all instances; raise why none works."""
        errors = await asyncio.gather(*(one.examine() for one in self._replicas))
        self._freed.set()
        faults = [error for error in errors if error is not None]
        if len(faults) == len(self._replicas):
            raise faults[0]


async def _run_on(replica: _Replica, task: Task, freed: asyncio.Event) -> AsyncGenerator[Event]:
    """Run the task on that instance; its stages and the handles of its jobs name the instance."""
    with _count(replica, freed), naming_left(partial(_name_job, replica.address)):
        try:
            async with aclosing(replica.engine.run(task)) as events:
                async for event in events:
                    yield _name_replica(event, replica.address)
        except EngineError as error:
            if error.engine_at_fault:
                replica.mark(working=False, error=error)
            raise


@contextmanager
def _count(replica: _Replica, freed: asyncio.Event) -> Iterator[None]:
    replica.running += 1
    try:
        yield
    finally:
        replica.running -= 1
        freed.set()


def _name_replica(event: Event, address: str) -> Event:
    match event:
        case Stage():
            return replace(event, replica=address)
        case Dispatched():
            return Dispatched(handle=_name_job(address, event.handle))
        case _:
            return event


def _name_job(address: str, job: str) -> str:
    return ReplicaHandle(replica=address, job=job).model_dump_json()
