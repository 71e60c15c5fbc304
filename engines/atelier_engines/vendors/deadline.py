"""How long a task may take at a remote service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atelier_engines.errors import EngineTimeoutError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time, so many seconds after it was made."""

    seconds: float
    """From the making."""
    _begun: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> float:
        """Seconds since the making."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds until it comes; 0 when it has come."""
        return max(0.0, self.seconds - self.passed)

    def require(self, vendor: str, *, because: Exception | None = None) -> None:
        """Return if it has not come; `because` is what has gone wrong at last.

        Raises:
            EngineTimeoutError: it has.
        """
        if not self.left:
            raise self._missed(vendor) from because

    @asynccontextmanager
    async def around(self, vendor: str) -> AsyncIterator[None]:
        """For a question that must not outlast the deadline; never for an order, which would be lost.

        Raises:
            EngineTimeoutError: the deadline came first.
        """
        try:
            async with asyncio.timeout(self.left):
                yield
        except TimeoutError as error:
            raise self._missed(vendor) from error

    def _missed(self, vendor: str) -> EngineTimeoutError:
        return EngineTimeoutError(
            f"{vendor} did not finish within {self.seconds:g} s; it may still be at work on the task"
        )
