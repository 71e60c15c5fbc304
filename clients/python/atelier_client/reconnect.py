"""Decides when a broken stream is opened again, where it continues, and when to give up; no I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from atelier_client.actions import Answer, Sleep
from atelier_client.errors import AtelierError, UnavailableError

_Y = TypeVar("_Y")
_R = TypeVar("_R")
_FIRST_DELAY_SECONDS = 0.1
_MAX_DELAY_SECONDS = 3.0
_MAX_DOUBLINGS = 5
_MAX_SECONDS_TO_FIRST_ANSWER = 2.0
"""Limit while the server has never answered, so that a wrong address is reported soon."""
_RANDOM = random.SystemRandom()


def _jitter() -> float:
    return _RANDOM.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How long to reconnect a broken stream, and how long to wait between two attempts.

    The delays double from 0.1 to 3 seconds, each multiplied by the jitter; a delay that the server
    gives takes precedence. The timeout counts from the first failure after the server last answered;
    a stream that is open and silent does not use it up.
    """

    timeout_seconds: float = 30.0
    """Maximum time from the first failure to an attempt that the server answers."""
    clock: Callable[[], float] = time.monotonic
    """Returns seconds from any origin."""
    jitter: Callable[[], float] = _jitter
    """Returns the factor of each delay."""

    def start(self, position: int, *, connected: bool = False) -> Reconnection:
        """Start a stream at `position`; `connected` says that the server has answered before."""
        return Reconnection(self, position, connected=connected)


class Reconnection:
    """The position of one stream, and its delay before the next attempt."""

    def __init__(self, policy: ReconnectPolicy, position: int, *, connected: bool) -> None:
        """Start at `position`, without a failure."""
        self.position = position
        self._policy = policy
        self._connected = connected
        self._failures = 0
        self._failing_since: float | None = None

    def record_answer(self) -> None:
        """Record that the server has opened the stream, so the timeout counts from the next failure.

        The delays continue to double until a message arrives.
        """
        self._connected = True
        self._failing_since = None

    def record_connection(self) -> None:
        """Record that a connection is open, so the whole timeout applies; it is not restarted."""
        self._connected = True

    def advance(self, position: int) -> bool:
        """Record the position of a message that has arrived; False if it is not beyond the last one."""
        self.record_answer()
        self._failures = 0
        if position <= self.position:
            return False
        self.position = position
        return True

    def delay_after(self, error: AtelierError) -> float:
        """Seconds to wait before the stream is opened again.

        Raises:
            AtelierError: the error itself, if a new attempt does not help or the timeout has passed.
        """
        timeout = self._policy.timeout_seconds
        if not self._connected:
            timeout = min(timeout, _MAX_SECONDS_TO_FIRST_ANSWER)
        now = self._policy.clock()
        if self._failing_since is None:
            self._failing_since = now
        waited = now - self._failing_since
        if not isinstance(error, UnavailableError) or waited >= timeout:
            raise error
        delay = error.retry_after_seconds
        if delay is None:
            doubled = _FIRST_DELAY_SECONDS * 2 ** min(self._failures, _MAX_DOUBLINGS)
            delay = min(doubled, _MAX_DELAY_SECONDS)
            delay *= self._policy.jitter()
        self._failures += 1
        return min(delay, max(timeout - waited, 0.0))


def repeat(
    attempt: Callable[[], Generator[_Y, Answer, _R]], reconnection: Reconnection
) -> Generator[_Y | Sleep, Answer, _R]:
    """Repeat the attempt until it succeeds, or until the policy gives up."""
    while True:
        try:
            return (yield from attempt())
        except AtelierError as error:
            delay = reconnection.delay_after(error)
        yield Sleep(seconds=delay)
