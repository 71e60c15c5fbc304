"""The calls that run: how many on each connection may last for long, and how all of them end."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import cast

from atelier_server.errors import DrainingError, TooManyCallsError


class RunningCalls:
    """Counts the calls on each connection that may last for long, and ends all calls when the server stops."""

    def __init__(self, max_per_connection: int | None) -> None:
        """Allow so many long calls on one connection; None for any number."""
        self.stopping = False
        """Whether `end_all` has been called."""
        self._max = max_per_connection
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[object]] = set()

    def end_all(self) -> None:
        """End every call that runs, and any that still comes, with the status DRAINING."""
        self.stopping = True
        for task in self._tasks:
            task.cancel()

    def add(self, task: asyncio.Task[object], peer: str) -> None:
        """Count one more; `peer` is the address of the connection's other end, empty for a call that is short.

        Peers on a Unix socket have no addresses, so they are not limited.

        Raises:
            DrainingError: the server stops.
            TooManyCallsError: there are as many as may be.
        """
        if self.stopping:
            raise _draining()
        if self._max is not None and peer and not peer.startswith("unix:"):
            if self._counts[peer] >= self._max:
                raise TooManyCallsError(self._max)
            self._counts[peer] += 1
        self._tasks.add(task)

    def remove(self, task: asyncio.Task[object], peer: str) -> None:
        """Count one less, after `add`."""
        self._tasks.discard(task)
        if peer in self._counts:
            self._counts[peer] -= 1
            if not self._counts[peer]:
                del self._counts[peer]


class RunningCall:
    """A context in which one call runs; what `end_all` has cancelled leaves it with DRAINING."""

    __slots__ = ("_calls", "_peer", "_task")

    def __init__(self, calls: RunningCalls, peer: str) -> None:
        """Count the call of the current task among `calls`, in the context; `peer` as in `RunningCalls.add`."""
        self._calls, self._peer = calls, peer
        self._task = cast("asyncio.Task[object]", asyncio.current_task())

    def __enter__(self) -> None:
        self._calls.add(self._task, self._peer)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._calls.remove(self._task, self._peer)
        if isinstance(error, asyncio.CancelledError) and self._calls.stopping:
            raise _draining() from None  # the server, not the caller, has cancelled it


def _draining() -> DrainingError:
    return DrainingError(
        "the server is shutting down; what it has accepted goes on after a restart"
    )
