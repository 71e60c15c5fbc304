"""Returns the cached result of an equal task, instead of running the task again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Stage
from atelier_engines.task import ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.wrappers.output_cache import OutputCache, copy_views, size_of
from atelier_engines.wrappers.task_digest import digest, input_bytes

_log = logging.getLogger(__name__)
_MAX_INLINE_BYTES = 2**18
"""Up to this size, hashing and copying are faster than starting a thread."""


_tenant: ContextVar[str] = ContextVar("cache_tenant", default="")


def set_cache_tenant(tenant: str) -> None:
    """Have the runs that the current asyncio task consumes find the results of this tenant."""
    _tenant.set(tenant)


def cache_tenant() -> str:
    """The tenant whose results the current asyncio task may find."""
    return _tenant.get()


@dataclass(slots=True, eq=False)
class _InFlight:
    """A running task that equal tasks wait for."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the task has ended, or its result will not be kept."""
    too_large: bool = False
    """Whether its result is too large to be kept."""


@dataclass(slots=True, kw_only=True)
class CachingEngine:
    """Caches the results of whole tasks in memory, and runs equal concurrent tasks only once.

    Tasks are equal if everything that changes a pixel is equal, see `task_digest`, and they are the same
    tenant's. An entry is a whole task with all its seeds: an engine may batch the images of one task, which can
    change their last bits. Only results of tasks that completed are kept. If the task that others wait for
    fails or is stopped, the next one runs.

    Engines whose results do not repeat (BEST_EFFORT) are passed through, with a warning at the start: a
    caller who submits a task twice expects two results. Tasks that resume a job are passed through, too.
    `start` and `stop` clear the cache, so that weights may be replaced.
    """

    inner: Engine
    """The engine that does the work."""
    name: str
    """The engine's name, which is part of each key."""
    max_bytes: int
    """Maximum size of the cache in bytes."""
    shared: bool = False
    """Whether tenants find each other's results; then the time of a task tells that another has done it before."""
    on_lookup: Callable[[bool], None] = lambda _: None
    """Called for every cacheable task, with whether its result was cached."""
    _cache: OutputCache = field(init=False)
    _in_flight: dict[bytes, _InFlight] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Create the empty cache."""
        self._cache = OutputCache(self.max_bytes)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    @property
    def held_bytes(self) -> int:
        """Size of the cached results in bytes."""
        return self._cache.held_bytes

    async def start(self) -> None:
        """See Engine.start."""
        self._cache.clear()
        await self.inner.start()
        if not self._is_reproducible:
            _log.warning(
                "result_cache_disabled", extra={"engine": self.name, "reason": "not reproducible"}
            )

    async def check(self) -> None:
        """See Engine.check."""
        await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        self._cache.clear()
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. A cached result is yielded after the stage `cache`, as `cached` outputs.

        The task is in the stage `wait` while an equal task is running.
        """
        async with aclosing(self._run(task)) as events:
            async for event in events:
                yield event

    def _run(self, task: Task) -> AsyncGenerator[Event]:
        if task.resume or not self._is_reproducible:
            return self.inner.run(task)
        return self._look_up(task)

    async def _look_up(self, task: Task) -> AsyncGenerator[Event]:
        key = await self._key(task)
        before: _InFlight | None = None
        while (in_flight := self._in_flight.get(key)) is not None:
            if before is None:
                yield Stage(name="wait")
            before = in_flight
            await in_flight.done.wait()
            if in_flight.too_large:
                break
        kept = self._cache.get(key)
        self.on_lookup(kept is not None)
        if kept is not None:
            yield Stage(name="cache")
            for output in _for_seeds(kept, task):
                yield output
            return
        async with aclosing(self._make(key, task)) as events:
            async for event in events:
                yield event

    async def _make(self, key: bytes, task: Task) -> AsyncGenerator[Event]:
        """Run the task on the engine, and keep its outputs if it completes."""
        in_flight = self._in_flight.setdefault(key, _InFlight())
        outputs: list[Output] = []
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    if isinstance(event, Output) and not in_flight.too_large:
                        outputs.append(event)
                        if size_of(outputs) > self.max_bytes:
                            outputs.clear()
                            in_flight.too_large = True
                            in_flight.done.set()
                    yield event
            if outputs and [output.seed for output in outputs] == [*_seeds(task)]:
                self._cache.put(key, await _copy_views(outputs))
        finally:
            if self._in_flight.get(key) is in_flight:
                del self._in_flight[key]
            in_flight.done.set()

    @property
    def _is_reproducible(self) -> bool:
        return self.capabilities.reproducibility is not Reproducibility.BEST_EFFORT

    async def _key(self, task: Task) -> bytes:
        tenant = b"" if self.shared else cache_tenant().encode()
        work = partial(digest, task, self.capabilities, self.name)
        if input_bytes(task) <= _MAX_INLINE_BYTES:
            return work() + tenant
        return await result_from_thread(work) + tenant


async def _copy_views(outputs: list[Output]) -> tuple[Output, ...]:
    if size_of(outputs) <= _MAX_INLINE_BYTES:
        return copy_views(outputs)
    return await result_from_thread(partial(copy_views, outputs))


def _for_seeds(kept: tuple[Output, ...], task: Task) -> Iterator[Output]:
    """The cached outputs with the seeds of the task, which may differ where they have no effect."""
    for output, seed in zip(kept, _seeds(task), strict=True):
        yield replace(output, seed=seed, cached=True, charge=None)


def _seeds(task: Task) -> tuple[int, ...]:
    return task.seeds if isinstance(task, ImageTask) else (task.seed,)
