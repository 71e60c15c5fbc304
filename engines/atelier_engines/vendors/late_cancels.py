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
        self._waiting: set[asyncio.Task[None]] = set()

    def add(self, cancel: Callable[[], Awaitable[Stop]]) -> None:
        """Call `cancel`, which raises nothing, until it says that the work does not go on."""
        task = asyncio.create_task(self._repeat(cancel))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        """Give up those that have not succeeded."""
        waiting = [*self._waiting]
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
