"""Cancellations that did not reach a service: repeated in the background, until it answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from atelier_engines.closing import Stop

_log = logging.getLogger(__name__)
_FIRST_PAUSE_SECONDS = 2.0
_MAX_PAUSE_SECONDS = 60.0
_GIVE_UP_SECONDS = 24 * 3600.0


class LateCancels:
    """The cancellations of one engine that are to be repeated, while the process lives and at most for a day."""

    def __init__(self, *, delay_scale: float = 1.0) -> None:
        """With none; `delay_scale` multiplies every pause."""
        self._delay_scale = delay_scale
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def add(self, key: str, cancel: Callable[[], Awaitable[Stop]]) -> None:
        """Call `cancel`, which raises nothing, until it says that the work does not go on; or until it is withdrawn."""
        task = self._waiting[key] = asyncio.create_task(self._repeat(cancel))
        task.add_done_callback(lambda _: self._waiting.pop(key, None))

    async def withdraw(self, key: str) -> None:
        """Repeat that cancellation no more, if there is one: its work is wanted again."""
        task = self._waiting.pop(key, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Give up those that have not succeeded."""
        waiting = [*self._waiting.values()]
        for task in waiting:
            task.cancel()
        if waiting:
            _log.warning("late_cancels_given_up", extra={"count": len(waiting)})
            await asyncio.wait(waiting)

    async def _repeat(self, cancel: Callable[[], Awaitable[Stop]]) -> None:
        pause, ends = _FIRST_PAUSE_SECONDS, time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < ends:
            await asyncio.sleep(pause * self._delay_scale)
            stop = await cancel()
            if stop is not Stop.MAY_GO_ON:
                _log.info("late_cancel_done", extra={"stop": stop.value})
                return
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        _log.warning("late_cancels_given_up", extra={"count": 1})
