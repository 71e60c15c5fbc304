"""Gives again what an equal task made before, instead of making it once more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Stage
from atelier_engines.task import ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.wrappers.output_cache import OutputCache, copy_views, size_of
from atelier_engines.wrappers.task_digest import digest, image_bytes

_log = logging.getLogger(__name__)
_MAX_INLINE_BYTES = 2**18
"""What is hashed or copied faster than a thread would begin."""


@dataclass(slots=True, eq=False)
class _InFlight:
    """A task under way that equal ones wait for."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when waiting for it makes no more sense."""
    too_large: bool = False
    """Whether what it makes will not be kept."""


@dataclass(slots=True, kw_only=True)
class CachingEngine:
    """Keeps the results of whole tasks in memory, and makes equal tasks that come at once only once.

    Tasks are equal if everything is that changes a pixel, see `task_digest`. An entry is a whole
    task, all its seeds: an engine may let pictures of one task share work, which can change their
    last bits. Only work that came to its end is kept. If the task that others wait for fails or is
    stopped, the next one makes it.

    Engines whose results do not repeat (BEST_EFFORT) are passed through, with a warning at the
    start: whoever asks them twice wants two results. So are tasks with work at a remote service to
    resume. What was made is forgotten with `start` and `stop`, so that weights may be replaced.
    """

    inner: Engine
    """The engine that does the work."""
    name: str
    """Its name, which counts as part of each task."""
    max_bytes: int
    """Most bytes of pixels, samples and files to keep."""
    on_lookup: Callable[[bool], None] = lambda _: None
    """Told for every task that could have been kept whether it was."""
    _cache: OutputCache = field(init=False)
    _in_flight: dict[bytes, _InFlight] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Start empty."""
        self._cache = OutputCache(self.max_bytes)

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    @property
    def held_bytes(self) -> int:
        """Bytes that are kept now."""
        return self._cache.held_bytes

    async def start(self) -> None:
        """See Engine.start."""
        self._cache.clear()
        await self.inner.start()
        if not self._is_reproducible:
            _log.warning("results of engine %s do not repeat: none are kept", self.name)

    async def check(self) -> None:
        """See Engine.check."""
        await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        self._cache.clear()
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. What was made before comes after the stage `cache`, as `cached` outputs.

        The stage `wait` is spent while an equal task is at work.
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
        while (making := self._in_flight.get(key)) is not None:
            if before is None:
                yield Stage(name="wait")
            before = making
            await making.done.wait()
            if making.too_large:
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
        """Have the engine do the task, and keep what it makes, if it comes to its end."""
        making = self._in_flight.setdefault(key, _InFlight())
        outputs: list[Output] = []
        try:
            async with aclosing(self.inner.run(task)) as events:
                async for event in events:
                    if isinstance(event, Output) and not making.too_large:
                        outputs.append(event)
                        if size_of(outputs) > self.max_bytes:
                            outputs.clear()
                            making.too_large = True
                            making.done.set()
                    yield event
            if len(outputs) == len(_seeds(task)):
                self._cache.put(key, await _copy_views(outputs))
        finally:
            if self._in_flight.get(key) is making:
                del self._in_flight[key]
            making.done.set()

    @property
    def _is_reproducible(self) -> bool:
        return self.capabilities.reproducibility is not Reproducibility.BEST_EFFORT

    async def _key(self, task: Task) -> bytes:
        work = partial(digest, task, self.capabilities, self.name)
        if image_bytes(task) <= _MAX_INLINE_BYTES:
            return work()
        return await result_from_thread(work)


async def _copy_views(outputs: list[Output]) -> tuple[Output, ...]:
    if size_of(outputs) <= _MAX_INLINE_BYTES:
        return copy_views(outputs)
    return await result_from_thread(partial(copy_views, outputs))


def _for_seeds(kept: tuple[Output, ...], task: Task) -> Iterator[Output]:
    """With the seeds of the task, which are others where they have no effect."""
    for output, seed in zip(kept, _seeds(task), strict=True):
        yield replace(output, seed=seed, cached=True)


def _seeds(task: Task) -> tuple[int, ...]:
    return task.seeds if isinstance(task, ImageTask) else (task.seed,)
