"""Has work that a crash of the server interrupted run alone, so that only what crashes it alone is given up.

After a crash everything that was running is suspect, and nothing tells what caused it. So each suspect waits until
nothing else runs, and others wait until it has ended. Work that only waits for a job at a remote service runs beside
others: it is the least likely cause, and waiting for its turn would waste what was paid for. It runs alone only in the
attempt after which it would be given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from atelier.v1.generation_pb2 import State
from atelier_server.store.protocol import ENDED, Event
from atelier_server.store.records import Record, count_crashes


def runs_beside_others(record: Record, max_attempts: int) -> bool:
    """Whether it only waits for a job at a remote service, and is not in its last attempt."""
    return bool(record.remote_handle) and count_crashes(record.generation) < max_attempts - 1


def is_suspect(record: Record, max_attempts: int) -> bool:
    """Whether it may have crashed the server, and is to run alone."""
    return count_crashes(record.generation) > 0 and not runs_beside_others(record, max_attempts)


def ran_alone(record: Record, running: Iterable[Record], max_attempts: int) -> bool:
    """Whether no other of those that were `running` at a crash can have caused it."""
    return all(other is record or runs_beside_others(other, max_attempts) for other in running)


@dataclass(slots=True, kw_only=True)
class Turn:
    """Which generations may start now; it does not change while one is claimed."""

    suspects: Collection[str] = ()
    beside: Collection[str] = ()
    running: bool = False
    """Whether anything runs that counts."""
    reserved: str = ""
    """The only one that may start; "-" for none, empty for any."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the answer may have changed."""
    refused: str = field(default="", init=False)
    """The generation that may not start; empty when none was asked for."""

    def may_start(self, generation_id: str) -> bool:
        """Whether this generation may start; called in the thread of the database."""
        if generation_id in self.beside:
            return True
        free = self.reserved in {"", generation_id}
        if free and not (self.running and generation_id in self.suspects):
            return True
        self.refused = generation_id
        return False


class Isolation:
    """Knows the suspects and what runs; used in the event loop. `add` names new suspects."""

    def __init__(
        self, suspects: Iterable[str], beside: Iterable[str], running: Iterable[str] = ()
    ) -> None:
        """Start with the ids of what waits, suspects and what may run beside them, and of what runs already."""
        self._suspects = set(suspects)
        self._beside = frozenset(beside)
        self._running = set(running)
        self._next = ""
        self._changed = asyncio.Event()
        self._claiming = asyncio.Lock()

    @property
    def over(self) -> bool:
        """Whether no suspect is left; it stays so."""
        return not self._suspects

    def add(self, suspects: Iterable[str], beside: Iterable[str]) -> None:
        """Learn of what waits since another process died: suspects, and what may run beside them."""
        self._suspects |= set(suspects)
        self._beside |= set(beside)

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Turn]:
        """What may be claimed inside the context; while there are suspects, one claim is made at a time."""
        if not self._suspects:
            yield Turn()
            return
        async with self._claiming:
            alone = bool(self._running & self._suspects)
            turn = Turn(
                suspects=frozenset(self._suspects),
                beside=self._beside,
                running=bool(self._running),
                reserved="-" if alone else self._next,
                changed=self._changed,
            )
            try:
                yield turn
            except BaseException:
                self._next = ""  # whoever waited for its start may not come back
                raise
            if turn.refused in self._suspects and not self._next:
                self._next = turn.refused

    def observe(self, event: Event) -> None:
        """Learn from an event of the log what runs, and what waits or has ended."""
        if not self._suspects or event.generation_id in self._beside:
            return
        if event.state == State.STATE_RUNNING:
            self._running.add(event.generation_id)
            if self._next == event.generation_id:
                self._next = ""
        else:
            self._leave(event.generation_id, ended=event.state in ENDED)

    def _leave(self, generation_id: str, *, ended: bool) -> None:
        known = generation_id in self._running or generation_id in self._suspects
        self._running.discard(generation_id)
        if ended:
            self._suspects.discard(generation_id)
            if self._next == generation_id:
                self._next = ""
        if known:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
