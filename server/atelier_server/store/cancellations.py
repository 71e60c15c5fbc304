"""Tells workers, within this process, that the generation which they execute is to be cancelled."""

from __future__ import annotations

import asyncio


class Cancellations:
    """A future for each generation that a worker executes or that is to be cancelled: no task waits for it."""

    def __init__(self) -> None:
        """Start without any."""
        self._futures: dict[str, asyncio.Future[None]] = {}

    def find(self, generation_id: str) -> asyncio.Future[None]:
        """The future that `request` makes done; whoever waits for it may cancel it."""
        future = self._futures.get(generation_id)
        if future is None or future.cancelled():
            future = self._futures[generation_id] = asyncio.get_running_loop().create_future()
        return future

    def request(self, generation_id: str) -> None:
        """Tell the worker of the generation, also one that asks only later."""
        future = self.find(generation_id)
        if not future.done():
            future.set_result(None)

    def forget(self, generation_id: str) -> None:
        """Forget a generation that nobody executes any more."""
        self._futures.pop(generation_id, None)
