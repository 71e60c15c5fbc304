"""The memory that images may take while they are decoded and used, shared by all tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

DECODING_BYTES_PER_PIXEL = 20
"""Memory for each pixel while an image is decoded: measured for every format, the most (18.5) for lossless WebP."""

_IDLE_SECONDS = 1.0  # after the last release, when what was decoded is no longer referenced


class Reservation:
    """A part of the budget."""

    def __init__(self, budget: DecodingBudget, size: int) -> None:
        """Made by `DecodingBudget.reserve`."""
        self._budget = budget
        self._size = size

    def shrink(self, size: int) -> None:
        """Give back all but `size` bytes."""
        released = max(0, self._size - size)
        self._size -= released
        self._budget.release(released)


class DecodingBudget:
    """Lets tasks wait for memory, in the order in which they come, so that a large one is not passed by for ever."""

    def __init__(self, max_bytes: int, *, on_idle: Callable[[int], None] | None = None) -> None:
        """Give out at most `max_bytes` at a time; after all is back, `on_idle` gets the most that was given out."""
        self.max_bytes = max_bytes
        self.reserved_bytes = 0
        """Bytes that are given out now."""
        self._most_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._on_idle = on_idle

    @asynccontextmanager
    async def reserve(self, size: int) -> AsyncGenerator[Reservation]:
        """Wait until so many bytes are free, and hold them inside the context.

        More than the whole budget counts as the whole budget: then nothing else is decoded meanwhile. A task must not
        reserve again while it holds a reservation.
        """
        size = min(size, self.max_bytes)
        if self._waiting or self.reserved_bytes + size > self.max_bytes:
            await self._wait(size)
        else:
            self._give_out(size)
        reservation = Reservation(self, size)
        try:
            yield reservation
        finally:
            reservation.shrink(0)

    def release(self, size: int) -> None:
        """Take bytes back, and give them to those who wait."""
        self.reserved_bytes -= size
        while self._waiting and self.reserved_bytes + self._waiting[0][0] <= self.max_bytes:
            wanted, granted = self._waiting.popleft()
            if not granted.done():  # it is done if it was cancelled
                self._give_out(wanted)
                granted.set_result(None)
        if self._on_idle is not None and not self.reserved_bytes:
            asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._report_idle)

    async def _wait(self, size: int) -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            with suppress(ValueError):
                self._waiting.remove((size, granted))
            self.release(0 if granted.cancelled() else size)  # those behind it may fit now
            raise

    def _give_out(self, size: int) -> None:
        self.reserved_bytes += size
        self._most_bytes = max(self._most_bytes, self.reserved_bytes)

    def _report_idle(self) -> None:
        if self._on_idle is not None and not self.reserved_bytes and self._most_bytes:
            most, self._most_bytes = self._most_bytes, 0
            self._on_idle(most)
