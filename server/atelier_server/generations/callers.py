"""Who sends requests, which calls want a generation that is cancelled with its callers, and when it is abandoned."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from atelier_server.store.protocol import Metadata

_MAX_IDS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sends a request, and how."""

    caller: str
    """Owner of the generation."""
    metadata: Metadata
    """Accompanies the generation."""
    seconds_left: float | None = None
    """Time until the caller stops waiting; None for no limit."""
    repeated: bool = False
    """Whether the same call was sent before: without a request id it attaches to what that has made."""


@dataclass(slots=True, eq=False)
class Callers:
    """The calls that started generations or follow them.

    A generation is abandoned when the last call that started it is lost. While it waits, any call that follows it
    takes it over: from then on it is abandoned when the last call of all is lost.
    """

    _started: Counter[str] = field(default_factory=Counter)
    _all: Counter[str] = field(default_factory=Counter)
    _taken_over: set[str] = field(default_factory=set)
    _attached: dict[str, asyncio.Event] = field(default_factory=dict)
    """Set when a call attaches to a generation that nobody wants."""
    _stopping: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Also those that have ended since: what was read of them may be older."""
    _answered: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @contextmanager
    def attend(self, generation_id: str, *, started: bool) -> Generator[None]:
        """Count a call as long as the context lasts; `started` when losing it may cancel the generation."""
        self._all[generation_id] += 1
        self._started[generation_id] += started
        if (attached := self._attached.pop(generation_id, None)) is not None:
            attached.set()
        try:
            yield
        finally:
            _subtract(self._all, generation_id, 1)
            _subtract(self._started, generation_id, started)

    def is_abandoned(self, generation_id: str, *, started: bool) -> bool:
        """Whether the generation is abandoned by the loss of a call that had `started` it, or only followed it."""
        if generation_id in self._taken_over:
            return generation_id not in self._all
        return started and generation_id not in self._started

    def is_attended(self, generation_id: str) -> bool:
        """Whether a call waits for the generation or follows it."""
        return generation_id in self._all

    def record_answer(self, generation_id: str) -> None:
        """Note that a call has seen the end of the generation; of more than 10,000 the oldest are forgotten."""
        self.forget(generation_id)
        _add(self._answered, generation_id)

    def is_answered(self, generation_id: str) -> bool:
        """Whether a call has seen the end of the generation, as far as that is known."""
        return generation_id in self._answered

    @contextmanager
    def stopping(self, generation_id: str) -> Generator[None]:
        """Note that the generation is being cancelled because nobody wants it; an error in the context reverts that."""
        _add(self._stopping, generation_id)
        try:
            yield
        except BaseException:
            self.record_start(generation_id)
            raise

    def is_stopping(self, generation_id: str) -> bool:
        """Whether the generation is or was cancelled because nobody wants it: a call comes too late to take it over."""
        return generation_id in self._stopping

    def record_start(self, generation_id: str) -> None:
        """Note that the generation is accepted, perhaps again."""
        self._stopping.pop(generation_id, None)
        self._answered.pop(generation_id, None)

    def forget(self, generation_id: str) -> None:
        """Forget a generation that has ended."""
        self._taken_over.discard(generation_id)

    async def wait_unwanted(
        self, generation_id: str, dispatched: Coroutine[None, None, None], grace_seconds: float
    ) -> bool:
        """Let other calls take over an abandoned generation that waits; False when one has.

        Waits for the grace period, or until the generation is dispatched.
        """
        self._taken_over.add(generation_id)
        if generation_id in self._all or generation_id in self._attached:
            dispatched.close()
            return False
        attached = self._attached[generation_id] = asyncio.Event()
        waits = [asyncio.ensure_future(dispatched), asyncio.ensure_future(attached.wait())]
        try:
            await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._attached.get(generation_id) is attached:
                del self._attached[generation_id]
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return not attached.is_set() and generation_id not in self._all


def _add(ids: OrderedDict[str, None], generation_id: str) -> None:
    ids[generation_id] = None
    if len(ids) > _MAX_IDS:
        ids.popitem(last=False)


def _subtract(counter: Counter[str], key: str, count: int) -> None:
    counter[key] -= count
    if not counter[key]:
        del counter[key]
