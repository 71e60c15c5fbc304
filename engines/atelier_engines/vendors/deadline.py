"""Time limit of a task at a remote service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atelier_engines.errors import EngineTimeoutError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A time limit that starts when the object is made."""

    seconds: float
    """Seconds from the start to the deadline."""
    _started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 once it has passed."""
        return max(0.0, self.seconds - self.elapsed)

    def require(self, vendor: str, *, because: Exception | None = None, reason: str = "") -> None:
        """Return if the deadline has not passed.

        Args:
            vendor: name of the service.
            because: the last error before the deadline.
            reason: why the task has not finished; by default that it may still be running.

        Raises:
            EngineTimeoutError: the deadline has passed.
        """
        if not self.remaining:
            raise self._timeout_error(vendor, reason) from because

    @asynccontextmanager
    async def timeout(self, vendor: str, *, reason: str = "") -> AsyncIterator[None]:
        """Context that ends at the deadline; never for a paid request, whose outcome would be unknown.

        Raises:
            EngineTimeoutError: the deadline passed first.
        """
        try:
            async with asyncio.timeout(self.remaining):
                yield
        except TimeoutError as error:
            raise self._timeout_error(vendor, reason) from error

    def _timeout_error(self, vendor: str, reason: str) -> EngineTimeoutError:
        return EngineTimeoutError(
            f"{vendor} did not finish within {self.seconds:g} s; "
            f"{reason or 'it may still be working on the task'}"
        )
