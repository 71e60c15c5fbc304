"""The only bridge from blocking code to asyncio, and the only point where blocking work is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor

from atelier_engines.event import Event

Emit = Callable[[Event], None]


class _Gone(BaseException):
    """The caller left. Not an Exception, so that model code cannot swallow it."""


async def stream_from_thread(
    work: Callable[[Emit], None], *, executor: Executor | None = None
) -> AsyncGenerator[Event]:
    """Run `work(emit)` in a thread of `executor` and yield what it emits.

    Each `emit` is a cancellation point: after the generator was closed it unwinds `work`. Closing returns when
    the thread is done with the task, however often the close itself is cancelled, so whoever holds the device
    for this task still holds it until the device is idle.

    Raises:
        Exception: whatever `work` raises.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    gone = threading.Event()

    def emit(event: Event) -> None:
        if gone.is_set():
            raise _Gone
        loop.call_soon_threadsafe(events.put_nowait, event)

    def body() -> None:
        try:
            work(emit)
        except _Gone:
            pass
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    thread = loop.run_in_executor(executor, body)
    try:
        while (event := await events.get()) is not None:
            yield event
        await thread
    finally:
        gone.set()
        await _until_done(thread)


async def _until_done(future: asyncio.Future[None]) -> None:
    """Wait for `future` even if cancelled meanwhile, and pass the cancellation on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()  # `work` may have failed after the caller left; nobody is there to hear it
    if cancelled is not None:
        raise cancelled
