"""Writes the log of a generation in the background, so that engines do not wait for the disk."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

from atelier_server.store.protocol import Claim, Event, Store

_MAX_PENDING_WRITES = 16  # events; with more than these the engine waits for the disk


class EventWriter:
    """The log of one attempt, open inside the context; leaving it waits until every event is written."""

    def __init__(self, store: Store, claim: Claim) -> None:
        """Write under this claim."""
        self._store = store
        self._claim = claim
        self._pending: deque[asyncio.Task[None]] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def write(self, event: Event) -> None:
        """Append the event in the background, in order.

        Raises:
            ClaimLostError: the claim is void; this may be raised by a later event.
        """
        self._pending.append(asyncio.create_task(self._store.log(self._claim, event)))
        while self._pending and (
            self._pending[0].done() or len(self._pending) > _MAX_PENDING_WRITES
        ):
            await self._pending.popleft()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outcomes = await asyncio.gather(*self._pending, return_exceptions=True)
        if error is None:
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
