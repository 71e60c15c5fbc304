"""Closing the run of a task without stopping its job at a remote service: another run resumes the job by its handle.

Whoever runs a task announces a `Closing`, and the engine asks it when the run is closed. Without one a closed run
stops its job. Nothing of this concerns work inside the process, which always stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Closing:
    """How one run is to be closed."""

    keep_job: bool = False
    """Whether its job is to go on at the service; no further job is ordered from then on. Set before closing it."""
    _orders: int = 0
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_settled(self, timeout_seconds: float) -> None:
        """Wait until each order that is under way is answered and its handle stored, but not longer than that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._orders:
                    self._settled.clear()
                    await self._settled.wait()

    def begin_order(self) -> None:
        """Count an order that is under way."""
        self._orders += 1

    def end_order(self) -> None:
        """Count it no more."""
        self._orders -= 1
        self._settled.set()


_announced: ContextVar[Closing | None] = ContextVar("closing", default=None)


def announce(closing: Closing) -> None:
    """Have it asked by the runs that the current asyncio task consumes."""
    _announced.set(closing)


def keeps_job() -> bool:
    """For engines: whether the job of the run that is being closed is to go on."""
    closing = _announced.get()
    return closing is not None and closing.keep_job


@asynccontextmanager
async def ordering() -> AsyncGenerator[None]:
    """For engines: the context of an order, from its request to the storage of its handle by `Dispatched`.

    A run that is closed to keep its job is not closed meanwhile; when it is about to be, no order begins.
    """
    closing = _announced.get()
    if closing is None:
        yield
        return
    if closing.keep_job:
        await asyncio.get_running_loop().create_future()
    closing.begin_order()
    try:
        yield
    finally:
        closing.end_order()
