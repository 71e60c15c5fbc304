"""Requests about work that a service has accepted: they outlast its outages, until the deadline of the task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline

ResultT = TypeVar("ResultT")

_PAUSE_SECONDS = 2.0
MAX_INVALID_POLLS = 3
"""Answers to polls in a row that are believed when they say that there is no such work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageWaiter:
    """Repeats the requests of one task that fail because its service cannot be reached, or not for now."""

    client: VendorClient
    """Client of the service."""
    deadline: Deadline
    """Deadline of the task."""

    async def ask(
        self,
        request: Callable[[], Awaitable[ResultT]],
        *,
        reason: str = "",
        max_invalid: int = 1,
    ) -> ResultT:
        """The answer to a free request about accepted work; the work goes on while the service cannot be reached.

        Args:
            request: raises EngineError.
            reason: why the work has not ended, should the deadline pass now and the service was reached last.
            max_invalid: this many answers in a row that say there is no such thing, or are invalid, are believed; more
                than one for what is asked again and again, since a proxy may answer while its server starts.

        Raises:
            EngineTimeoutError: the deadline has passed; the message has the last error.
            EngineFailedError: there is no such thing, or the answers are invalid.
            EngineError: every other error of the request.
        """
        invalid = 0
        while True:
            try:
                async with self.deadline.timeout(self.client.name, reason=reason):
                    return await request()
            except EngineFailedError as error:
                invalid += 1
                if invalid == max_invalid:
                    raise
                last: EngineError = error
            except (EngineUnavailableError, EngineTimeoutError) as error:
                if not self.deadline.remaining:
                    raise
                invalid, last = 0, error
            reason = f"{last}; it may still be working on the task"
            self.deadline.require(self.client.name, because=last, reason=reason)
            await self.client.pause(min(_PAUSE_SECONDS, self.deadline.remaining))
