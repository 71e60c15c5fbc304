"""When a broken stream is opened again, where it continues, and when it is given up: no I/O."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from atelier_client.errors import AtelierError, UnavailableError

_FIRST_DELAY_SECONDS = 0.1
_MAX_DELAY_SECONDS = 3.0
_MAX_SECONDS_TO_FIRST_MESSAGE = 2.0
"""How long a stream that never sent anything is opened again: a wrong address is reported soon."""
_RANDOM = random.SystemRandom()


def _jitter() -> float:
    return _RANDOM.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How long a stream that broke is opened again, and how long to wait in between.

    The delays double from 0.1 to 3 seconds, each multiplied by the jitter; where the server says when
    to try again, that counts. Every message that arrives starts the time anew.
    """

    timeout_seconds: float = 30.0
    """Longest time without a message."""
    clock: Callable[[], float] = time.monotonic
    """Seconds, from any origin."""
    jitter: Callable[[], float] = _jitter
    """Factor of each delay."""

    def start(self, position: int, *, connected: bool = False) -> Reconnection:
        """The state of one stream, at `position`; `connected` says that the server has answered before."""
        return Reconnection(self, position, connected=connected)


class Reconnection:
    """Where one stream stands, and how long to wait before it is opened again."""

    def __init__(self, policy: ReconnectPolicy, position: int, *, connected: bool) -> None:
        """Start at `position`."""
        self.position = position
        self._policy = policy
        self._connected = connected
        self._failures = 0
        self._last_message = policy.clock()

    def advance(self, position: int) -> bool:
        """Record the position of a message that has arrived; False if an earlier one was as far."""
        self._connected = True
        self._failures = 0
        self._last_message = self._policy.clock()
        if position <= self.position:
            return False
        self.position = position
        return True

    def delay_after(self, error: AtelierError) -> float:
        """Seconds to wait before the stream is opened again.

        Raises:
            AtelierError: the error itself, when waiting does not help or has taken too long.
        """
        timeout = self._policy.timeout_seconds
        if not self._connected:
            timeout = min(timeout, _MAX_SECONDS_TO_FIRST_MESSAGE)
        waited = self._policy.clock() - self._last_message
        if not isinstance(error, UnavailableError) or waited >= timeout:
            raise error
        delay = error.retry_after_seconds
        if delay is None:
            delay = min(_FIRST_DELAY_SECONDS * 2**self._failures, _MAX_DELAY_SECONDS)
            delay *= self._policy.jitter()
        self._failures += 1
        return min(delay, max(timeout - waited, 0.0))
