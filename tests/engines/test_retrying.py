"""The retries that engine authors use."""

from __future__ import annotations

import pytest

from atelier_engines.errors import EngineError, EngineUnavailableError
from atelier_engines.retrying import RetryableError, RetryPolicy, retry

AWAY = EngineUnavailableError("the service is away")


class Attempts:
    """Fails with these errors, one after the other, then succeeds; records the pauses between."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0
        self.pauses: list[float] = []

    async def __call__(self) -> str:
        """One attempt."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def pause(self, seconds: float) -> None:
        """Record it instead of sleeping."""
        self.pauses.append(seconds)


async def test_what_may_succeed_is_repeated_with_growing_pauses() -> None:
    """Within the jitter; a service that says how long is waited for at least so long."""
    attempts = Attempts(
        RetryableError(AWAY), RetryableError(AWAY), RetryableError(AWAY, retry_after_seconds=7)
    )
    assert await retry(attempts, attempts.pause) == "done"
    first, second, third = attempts.pauses
    assert 0.25 <= first <= 0.75
    assert 0.5 <= second <= 1.5
    assert third == 7


async def test_the_last_error_is_raised_with_its_cause() -> None:
    """After as many attempts as the policy says, which also bounds each pause."""
    last = RetryableError(AWAY)
    last.__cause__ = OSError("refused")
    attempts = Attempts(RetryableError(EngineUnavailableError("first")), last)
    policy = RetryPolicy(max_attempts=2, initial_backoff_seconds=60, max_backoff_seconds=3)
    with pytest.raises(EngineUnavailableError, match="is away") as caught:
        await retry(attempts, attempts.pause, policy)
    assert caught.value.__cause__ is last.__cause__
    assert (attempts.calls, attempts.pauses) == (2, [3])


@pytest.mark.parametrize(
    "error", [EngineError("paid already"), ValueError("a bug"), RetryableError(AWAY, 3600)]
)
async def test_other_errors_and_long_waits_are_raised_at_once(error: Exception) -> None:
    """Only what the engine calls retryable is repeated, and only if that is soon."""
    attempts = Attempts(error)
    with pytest.raises(type(error) if not isinstance(error, RetryableError) else EngineError):
        await retry(attempts, attempts.pause)
    assert (attempts.calls, attempts.pauses) == (1, [])


async def test_a_policy_without_attempts_is_refused() -> None:
    """It would return nothing."""
    with pytest.raises(ValueError, match="at least 1"):
        await retry(Attempts(), policy=RetryPolicy(max_attempts=0))
