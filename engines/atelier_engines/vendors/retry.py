"""Retries with exponential back-off and jitter; honours Retry-After."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from atelier_engines.errors import EngineError

ResultT = TypeVar("ResultT")

_MAX_ATTEMPTS = 5
_INITIAL_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 10.0


class RetryableError(Exception):
    """The attempt failed and may succeed when it is repeated."""

    def __init__(self, error: EngineError, retry_after_seconds: float) -> None:
        """Wrap `error`, to be raised when no attempt is left; `retry_after_seconds` as the service says."""
        super().__init__(str(error))
        self.error = error
        self.retry_after_seconds = retry_after_seconds


async def retry(
    attempt: Callable[[], Awaitable[ResultT]], pause: Callable[[float], Awaitable[None]]
) -> ResultT:
    """The result of `attempt()`, called up to five times while it raises RetryableError.

    `pause` sleeps for the given seconds. A Retry-After of more than ten seconds ends the retries.

    Raises:
        EngineError: the error of the last attempt.
    """
    delay = _INITIAL_BACKOFF_SECONDS
    for remaining in reversed(range(_MAX_ATTEMPTS)):
        try:
            return await attempt()
        except RetryableError as failure:
            if not remaining or failure.retry_after_seconds > _MAX_BACKOFF_SECONDS:
                raise failure.error from failure.__cause__
            wait = max(delay * random.uniform(0.5, 1.5), failure.retry_after_seconds)  # noqa: S311 (jitter, no secret)
        await pause(min(wait, _MAX_BACKOFF_SECONDS))
        delay *= 2
    raise AssertionError("the last attempt returns or raises")
