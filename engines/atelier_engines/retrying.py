"""Repeats what failed and may succeed: with growing pauses, jitter, and the time that a service asks for.

For engines of every kind, those of other packages included; docs/writing-an-engine.md shows its use. It repeats only
what raises RetryableError, so the engine decides which failures are safe to repeat: never a request that may have been
paid.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from atelier_engines.errors import EngineError

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how fast to repeat."""

    max_attempts: int = 5
    """Attempts in all, from 1."""
    initial_backoff_seconds: float = 0.5
    """Pause after the first failure, times 0.5 to 1.5 by chance; each further one is twice as long."""
    max_backoff_seconds: float = 10.0
    """Longest pause; a service that asks for a longer one ends the retries."""


class RetryableError(Exception):
    """The attempt failed and may succeed when it is repeated."""

    def __init__(self, error: EngineError, retry_after_seconds: float = 0.0) -> None:
        """Wrap `error`, to be raised when no attempt is left; `retry_after_seconds` as the service says."""
        super().__init__(str(error))
        self.error = error
        self.retry_after_seconds = retry_after_seconds


async def retry(
    attempt: Callable[[], Awaitable[ResultT]],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    policy: RetryPolicy | None = None,
) -> ResultT:
    """The result of `attempt()`, called again while it raises RetryableError, as the policy permits.

    Everything else that it raises is raised at once; closing or cancelling the task ends a pause.

    Args:
        attempt: called up to `max_attempts` times.
        pause: sleeps for the given seconds.
        policy: five attempts within some 8 s if None.

    Raises:
        EngineError: the error of the last attempt.
    """
    policy = policy or RetryPolicy()
    delay = policy.initial_backoff_seconds
    for remaining in reversed(range(policy.max_attempts)):
        try:
            return await attempt()
        except RetryableError as failure:
            if not remaining or failure.retry_after_seconds > policy.max_backoff_seconds:
                raise failure.error from failure.__cause__
            wait = max(delay * random.uniform(0.5, 1.5), failure.retry_after_seconds)  # noqa: S311 (jitter, no secret)
        await pause(min(wait, policy.max_backoff_seconds))
        delay *= 2
    raise ValueError(f"max_attempts must be at least 1, not {policy.max_attempts}")
