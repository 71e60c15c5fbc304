"""When a broken stream is taken up again, and from where: pure, shared by both clients."""

from __future__ import annotations

import random
import time

from atelier_client.errors import AtelierError, UnavailableError

_FIRST_DELAY_SECONDS = 0.1
_MAX_DELAY_SECONDS = 3.0
_START_PATIENCE_SECONDS = 2.0
"""How long a stream that never began is tried for: a wrong address should be told soon."""
_JITTER = random.SystemRandom()


class Resumption:
    """Where one stream stands, and how long to wait before it is taken up again."""

    def __init__(self, *, position: int, patience_seconds: float, begun: bool) -> None:
        """Start at `position`; `begun` says that the server is known to be there."""
        self.position = position
        self._patience_seconds = patience_seconds
        self._begun = begun
        self._failures = 0
        self._last_moved = time.monotonic()

    def moved_to(self, position: int) -> bool:
        """Note how far the stream has come; False for what came before already."""
        self._begun = True
        self._failures = 0
        self._last_moved = time.monotonic()
        if position <= self.position:
            return False
        self.position = position
        return True

    def delay_after(self, error: AtelierError) -> float:
        """Seconds to wait before the next try.

        Raises:
            AtelierError: the error itself, when waiting will not cure it or has taken too long.
        """
        patience = self._patience_seconds
        if not self._begun:
            patience = min(patience, _START_PATIENCE_SECONDS)
        waited = time.monotonic() - self._last_moved
        if not isinstance(error, UnavailableError) or waited >= patience:
            raise error
        delay = error.retry_after_seconds
        if delay is None:
            delay = min(_FIRST_DELAY_SECONDS * 2**self._failures, _MAX_DELAY_SECONDS)
            delay *= _JITTER.uniform(0.5, 1.0)
        self._failures += 1
        return min(delay, max(patience - waited, 0.0))
