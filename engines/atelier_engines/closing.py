"""Closing the run of a task without stopping its job at a remote service: another run resumes the job by its handle.

Whoever runs a task announces a `Closing`, and the engine asks it when the run is closed. Without one a closed run
stops its job. Nothing of this concerns work inside the process, which always stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum


class Stop(Enum):
    """What became of the work of a run that was closed before its end."""

    NEVER_STARTED = "never_started"
    """It was taken out of the service's queue: nothing of it was begun."""
    STOPPED = "stopped"
    """It was begun, and goes on no longer."""
    ENDED = "ended"
    """It had ended before it could be stopped, and its result has not been fetched."""
    MAY_GO_ON = "may_go_on"
    """It could not be stopped, or nobody can know whether it was."""


def combine(stops: Iterable[Stop]) -> Stop:
    """What became of all of these together; of none, that nothing was begun."""
    found = {*stops}
    ranked = (Stop.MAY_GO_ON, Stop.ENDED, Stop.STOPPED)
    return next((stop for stop in ranked if stop in found), Stop.NEVER_STARTED)


@dataclass(slots=True, eq=False)
class Closing:
    """How one run is to be closed."""

    keep_job: bool = False
    """Whether its job is to go on at the service; no further job is ordered from then on. Set before closing it."""
    stop: Stop | None = None
    """What became of its work, as the engine reports it once it is closed; None where it cannot tell."""
    left: str | None = None
    """Handle of what is not stopped, for a run that resumes it; empty for nothing, None if it does not say."""
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


def report_stop(stop: Stop, left: str | None = None) -> None:
    """For engines: say what became of the work of the run that is being closed, and what another can resume of it."""
    closing = _announced.get()
    if closing is not None:
        closing.stop = stop
        closing.left = left


@contextmanager
def naming_left(name: Callable[[str], str]) -> Generator[None]:
    """For engines around others: the context of the inner run, whose handle of what is left gets that name."""
    closing = _announced.get()
    if closing is None:
        yield
        return
    closing.left = None
    try:
        yield
    finally:
        if closing.left:
            closing.left = name(closing.left)


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
