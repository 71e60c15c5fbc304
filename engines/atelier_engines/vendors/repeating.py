"""Tries what may be tried again: a few times, with growing pauses, and as the service wishes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from atelier_engines.errors import EngineError

ResultT = TypeVar("ResultT")

_TRIES = 5
_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 10.0


class AgainError(Exception):
    """Worth another try."""

    def __init__(self, error: EngineError, after: float) -> None:
        """Mean `error` if no try is left; `after` is how many seconds the service wants to rest."""
        super().__init__(str(error))
        self.error = error
        self.after = after


async def repeated(
    once: Callable[[], Awaitable[ResultT]], pause: Callable[[float], Awaitable[None]]
) -> ResultT:
    """The result of `once()`, tried up to five times as long as it raises AgainError.

    `pause` waits so many seconds. A service that wants to rest for longer than ten is left alone.

    Raises:
        EngineError: what the last try raised.
    """
    delay = _FIRST_DELAY_SECONDS
    for left in reversed(range(_TRIES)):
        try:
            return await once()
        except AgainError as again:
            if not left or again.after > _LONGEST_DELAY_SECONDS:
                raise again.error from again.__cause__
            wait = max(delay * random.uniform(0.5, 1.5), again.after)  # noqa: S311 (jitter, no secret)
        await pause(min(wait, _LONGEST_DELAY_SECONDS))
        delay *= 2
    raise AssertionError("the last try returns or raises")
