"""Stops the tasks of an engine that take too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from atelier_engines.capabilities import CancelSupport, Capabilities
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineTimeoutError, TaskTimeoutError
from atelier_engines.event import Event
from atelier_engines.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimitEngine:
    """Closes a run that has not ended in `seconds`; the time in which its events are used counts, too."""

    inner: Engine
    """The engine that does the work."""
    seconds: float
    """Maximum time of a task."""

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start, which may take any time."""
        await self.inner.start()

    async def check(self) -> None:
        """See Engine.check."""
        await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run.

        Raises:
            TaskTimeoutError: it took too long, and was stopped.
            EngineTimeoutError: it took too long, and may go on at a remote service.
        """
        end = asyncio.get_running_loop().time() + self.seconds
        async with aclosing(self.inner.run(task)) as events:
            while True:
                limit = asyncio.timeout_at(end)
                try:
                    async with limit:
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    if not limit.expired():
                        raise
                    raise self._error() from error
                yield event

    def _error(self) -> EngineTimeoutError:
        took = f"the task took longer than {self.seconds:g} s, the limit of this engine"
        if self.capabilities.cancel is CancelSupport.STEP:
            return TaskTimeoutError(f"{took}, and was stopped; ask for less, or for fewer steps")
        return EngineTimeoutError(f"{took}; it may still be running at the service")
