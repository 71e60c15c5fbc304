"""Runs blocking code in threads for asyncio, and cancels it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from atelier_engines.event import Event

Emit = Callable[[Event], None]
ResultT = TypeVar("ResultT")


class _Closed(BaseException):
    """The caller has closed the stream. Not an Exception, so that model code cannot swallow it."""


async def stream_from_thread(
    work: Callable[[Emit], None], *, executor: Executor | None = None
) -> AsyncGenerator[Event]:
    """Run `work(emit)` in a thread of `executor` and yield what it emits.

    Each `emit` is a cancellation point: after the generator was closed it unwinds `work`. Closing
    returns when the thread has finished with the task, however often the close itself is cancelled, so a
    lock on the device is held until the device is idle. `work` sees the context variables of the caller.

    Raises:
        Exception: whatever `work` raises; StopIteration arrives as RuntimeError.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    gone = threading.Event()

    def emit(event: Event) -> None:
        if gone.is_set():
            raise _Closed
        loop.call_soon_threadsafe(events.put_nowait, event)

    def body() -> None:
        try:
            if not gone.is_set():  # it may have been closed while it waited for a thread
                work(emit)
        except _Closed:
            pass
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    thread = _submit(body, executor)
    try:
        while (event := await events.get()) is not None:
            yield event
        await thread
    finally:
        gone.set()
        await wait_shielded(thread)


async def result_from_thread(
    work: Callable[[], ResultT], *, executor: Executor | None = None
) -> ResultT:
    """Run `work()` in a thread of `executor` and return its result.

    For short work: it cannot be stopped, so a cancelled caller waits for its end too.

    Raises:
        Exception: whatever `work` raises; StopIteration arrives as RuntimeError.
    """
    thread = _submit(work, executor)
    await wait_shielded(thread)
    return thread.result()


def _submit(work: Callable[[], ResultT], executor: Executor | None) -> asyncio.Future[ResultT]:
    context = contextvars.copy_context()

    def body() -> ResultT:
        try:
            return context.run(work)
        except StopIteration as error:
            # A future cannot carry it: on Python 3.11 the waiter would wait for ever.
            raise RuntimeError("the work took an item from an exhausted iterator") from error

    return asyncio.get_running_loop().run_in_executor(executor, body)


async def wait_shielded(future: asyncio.Future[Any]) -> None:
    """Wait for `future` even if cancelled meanwhile, and pass the cancellation on afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if not future.cancelled():
        future.exception()  # read, since after the caller left nobody else will
    if cancelled is not None:
        raise cancelled
