"""Memory that calls share: each holds a part of it, and waits for that part in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from atelier_server.errors import ServiceError

_MAX_WAITING = 2048  # each may fill the window of its stream


class _Account:
    """What is held of some memory, by level: what that level and those below it hold."""

    __slots__ = ("_held", "_max_bytes")

    def __init__(self, max_bytes: Sequence[float]) -> None:
        self._max_bytes = max_bytes
        self._held = [0 for _ in max_bytes]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._held[-1]

    def fits(self, level: int, size: int) -> bool:
        """Whether there is room; where nothing is held, there is room for anything."""
        return all(
            not self._held[each] or self._held[each] + size <= self._max_bytes[each]
            for each in range(level, len(self._held))
        )

    def add(self, level: int, size: int) -> None:
        """Hold more, or less where `size` is negative."""
        for each in range(level, len(self._held)):
            self._held[each] += size


class Held:
    """What one call holds; nothing until `take`."""

    __slots__ = ("level", "memory", "owners", "size", "wanted")

    def __init__(self, memory: SharedMemory, owners: Mapping[str, float], level: int = 0) -> None:
        """Made for one call: `owners` are those whose part it counts for, each with the part of all it may have."""
        self.memory, self.owners, self.level = memory, owners, level
        self.size = self.wanted = 0

    async def take(self, size: int) -> None:
        """Hold so many bytes, when there is room, after holding none.

        Raises:
            ServiceError: there is none for a while.
        """
        self.wanted = size
        await self.memory.take(self)

    def shrink(self, size: int) -> None:
        """Give back all but `size` bytes."""
        if size < self.size:
            self.memory.release(self, self.size - size)


_Waiting: TypeAlias = "tuple[Held, asyncio.Future[None]]"
_Key: TypeAlias = tuple[int, *tuple[str, ...]]


class SharedMemory:
    """Gives out memory.

    Calls of the same owners and level get it in the order in which they come; owners and levels take turns.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        parts: Sequence[float] = (1.0,),
        wait_seconds: float,
        refuse: Callable[[], ServiceError],
    ) -> None:
        """Give out `max_bytes` at a time, to those who wait so long for it; others are told what `refuse` makes.

        `parts` are, by level, the part of the memory that the level and those below it may take together, of all and
        of what each owner may have.
        """
        self._max_bytes, self._parts = max_bytes, parts
        self._wait_seconds, self._refuse = wait_seconds, refuse
        self._all = _Account([max_bytes * part for part in parts])
        self._owners: dict[str, _Account] = {}
        self._queues: dict[_Key, deque[_Waiting]] = {}
        self._waiting = 0

    @property
    def is_short(self) -> bool:
        """Whether calls wait."""
        return self._waiting > 0

    async def take(self, held: Held) -> None:
        """See `Held.take`."""
        if self._fits(held):
            self._give_out(held)
            return
        if self._waiting >= _MAX_WAITING:
            raise self._refuse()
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(_key(held), deque()).append((held, granted))
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await granted
        except TimeoutError as error:
            self._give_up(held, granted)
            raise self._refuse() from error
        except asyncio.CancelledError:
            self._give_up(held, granted)
            raise

    def release(self, held: Held, size: int) -> None:
        """Take bytes back, and give them to those who wait."""
        held.size -= size
        self._all.add(held.level, -size)
        for owner in held.owners:
            account = self._owners[owner]
            account.add(held.level, -size)
            if account.is_empty:
                del self._owners[owner]
        if self._waiting:
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Give to one of each queue, as long as there is room for one of them."""
        served = [True]
        while any(served):
            served = [self._serve_next(key) for key in tuple(self._queues)]

    def _serve_next(self, key: _Key) -> bool:
        queue = self._queues[key]
        held, granted = queue[0]
        if not granted.cancelled() and not self._fits(held):
            return False
        queue.popleft()
        self._waiting -= 1
        del self._queues[key]
        if queue:
            self._queues[key] = queue  # the others come first next time
        if not granted.cancelled():
            self._give_out(held)
            granted.set_result(None)
        return True

    def _give_up(self, held: Held, granted: asyncio.Future[None]) -> None:
        held.shrink(0)  # it was granted in the same moment
        key = _key(held)
        queue = self._queues.get(key)
        if queue is not None and (held, granted) in queue:
            queue.remove((held, granted))
            self._waiting -= 1
            if not queue:
                del self._queues[key]

    def _fits(self, held: Held) -> bool:
        accounts = [self._owners[owner] for owner in held.owners if owner in self._owners]
        return all(account.fits(held.level, held.wanted) for account in (self._all, *accounts))

    def _give_out(self, held: Held) -> None:
        held.size = held.wanted
        self._all.add(held.level, held.size)
        for owner, part in held.owners.items():
            account = self._owners.get(owner)
            if account is None:
                most = self._max_bytes * part
                account = self._owners[owner] = _Account([most * each for each in self._parts])
            account.add(held.level, held.size)


def _key(held: Held) -> _Key:
    return (held.level, *held.owners)
