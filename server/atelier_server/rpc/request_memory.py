"""The memory that requests may take while they arrive and are taken apart, shared by all callers.

gRPC tells the size of a message only when it has arrived whole. So a request counts as the largest there may be while
it is being read, and as what it is from then on. Of what the server does not read yet, gRPC holds no more than the
window of the stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import TypeAlias

from atelier_server.errors import RequestMemoryError

_MAX_WAITING = 2048  # each may fill the window of its stream
_TENANT_PART = 0.5


class Kind(IntEnum):
    """What a request is; a higher kind finds room that lower ones cannot take."""

    UPLOAD = 0
    """A part of an upload, which may be long in coming."""
    TASK = 1
    """A request that may have attachments."""
    SHORT = 2
    """A request that asks or controls."""


_PARTS = {Kind.UPLOAD: 0.5, Kind.TASK: 0.75, Kind.SHORT: 1.0}
"""By kind, the part of the memory that it and the kinds below it may take together."""


class _Account:
    """What is held of some memory, by kind: what that kind and those below it hold."""

    __slots__ = ("_held", "_max_bytes")

    def __init__(self, max_bytes: float) -> None:
        self._max_bytes = max_bytes
        self._held = [0 for _ in Kind]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held[-1]

    def fits(self, kind: Kind, size: int) -> bool:
        """Whether there is room; where nothing is held, there is room for anything."""
        return all(
            not self._held[level] or self._held[level] + size <= self._max_bytes * _PARTS[level]
            for level in Kind
            if level >= kind
        )

    def add(self, kind: Kind, size: int) -> None:
        """Hold more, or less where `size` is negative."""
        for level in range(kind, len(self._held)):
            self._held[level] += size


class Held:
    """What one request holds; nothing until `RequestMemory.take`."""

    __slots__ = ("kind", "memory", "size", "tenant")

    def __init__(self, memory: RequestMemory, tenant: str, kind: Kind) -> None:
        """Made for one request at a time of this tenant."""
        self.memory, self.tenant, self.kind, self.size = memory, tenant, kind, 0

    async def take(self) -> None:
        """Hold enough for the largest request, when there is room.

        Raises:
            RequestMemoryError: there is none for a while.
        """
        await self.memory.take(self)

    def shrink(self, size: int) -> None:
        """Give back all but `size` bytes."""
        if size < self.size:
            self.memory.release(self, self.size - size)


_Waiting: TypeAlias = "tuple[Held, asyncio.Future[None]]"


class RequestMemory:
    """Gives out memory, to each tenant at most half of it.

    Requests of one tenant and kind get it in the order in which they come; tenants and kinds take turns.
    """

    def __init__(self, max_bytes: int, message_bytes: int, *, wait_seconds: float = 10) -> None:
        """Give out `max_bytes` at a time, for requests of at most `message_bytes` each, which wait so long for it."""
        self._wait_seconds = wait_seconds
        self._message_bytes = message_bytes
        self._max_bytes = max_bytes
        self._all = _Account(max_bytes)
        self._tenants: dict[str, _Account] = {}
        self._queues: dict[tuple[str, Kind], deque[_Waiting]] = {}
        self._waiting = 0

    @property
    def is_short(self) -> bool:
        """Whether requests wait."""
        return self._waiting > 0

    async def take(self, held: Held) -> None:
        """See `Held.take`."""
        if self._fits(held):
            self._give_out(held)
            return
        if self._waiting >= _MAX_WAITING:
            raise RequestMemoryError
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault((held.tenant, held.kind), deque()).append((held, granted))
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except TimeoutError as error:
            self._give_up(held, granted)
            raise RequestMemoryError from error
        except asyncio.CancelledError:
            self._give_up(held, granted)
            raise

    def release(self, held: Held, size: int) -> None:
        """Take bytes back, and give them to those who wait."""
        held.size -= size
        self._all.add(held.kind, -size)
        account = self._tenants[held.tenant]
        account.add(held.kind, -size)
        if account.is_empty:
            del self._tenants[held.tenant]
        if self._waiting:
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        for key, queue in tuple(self._queues.items()):
            while queue and self._fits(queue[0][0]):
                held, granted = queue.popleft()
                self._waiting -= 1
                if granted.cancelled():
                    continue
                self._give_out(held)
                granted.set_result(None)
                self._queues[key] = self._queues.pop(key)  # the others come first next time
            if not queue:
                self._queues.pop(key, None)

    def _give_up(self, held: Held, granted: asyncio.Future[None]) -> None:
        held.shrink(0)  # it was granted in the same moment
        queue = self._queues.get((held.tenant, held.kind))
        if queue is not None and (held, granted) in queue:
            queue.remove((held, granted))
            self._waiting -= 1
            if not queue:
                del self._queues[held.tenant, held.kind]

    def _fits(self, held: Held) -> bool:
        account = self._tenants.get(held.tenant)
        size = self._message_bytes
        return self._all.fits(held.kind, size) and (
            account is None or account.fits(held.kind, size)
        )

    def _give_out(self, held: Held) -> None:
        held.size = self._message_bytes
        self._all.add(held.kind, held.size)
        account = self._tenants.get(held.tenant)
        if account is None:
            account = self._tenants[held.tenant] = _Account(self._max_bytes * _TENANT_PART)
        account.add(held.kind, held.size)
