"""The part of an SQL store that pauses engines and clears their queues."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from atelier.v1.engine_pb2 import EnginePause
from atelier.v1.generation_pb2 import CancelCause
from atelier_server.clock import current_timestamp
from atelier_server.store import records
from atelier_server.store.protocol import Event
from atelier_server.store.sql import pauses, rows, usage, waiting
from atelier_server.store.sql.cancelled_jobs import SqlCancelledJobs
from atelier_server.store.sql.database import Connection, Database

_CLEARED_AT_ONCE = 100  # in one transaction, so that other calls take their turns


class SqlQueues(SqlCancelledJobs):
    """See queue_protocol.QueueStore."""

    def __init__(self, database: Database, retention_seconds: float) -> None:
        """Keep what has ended for so long."""
        super().__init__(database)
        self._retention_seconds = retention_seconds
        self._free_engines: Collection[str] = ()

    async def pause(self, engine: str, reason: str) -> EnginePause:
        """See QueueStore.pause."""
        pause = EnginePause(reason=reason, pause_time=current_timestamp())
        return await self._database.run(lambda db: pauses.pause(db, engine, pause))

    async def resume(self, engine: str) -> bool:
        """See QueueStore.resume."""

        def work(db: Connection) -> tuple[bool, int]:
            return pauses.resume(db, engine), waiting.count(db, engine)

        def on_commit(resumed: tuple[bool, int]) -> None:
            if resumed[0]:
                self._wake_workers(engine, resumed[1])

        was_paused, _ = await self._database.run(work, on_commit=on_commit)
        return was_paused

    async def list_pauses(self) -> Mapping[str, EnginePause]:
        """See QueueStore.list_pauses."""
        return await self._database.read(pauses.list_all)

    async def clear_queue(self, engine: str, reason: str) -> int:
        """See QueueStore.clear_queue."""
        ids = await self._database.read(lambda db: waiting.list_ids(db, engine))
        cleared = 0
        for start in range(0, len(ids), _CLEARED_AT_ONCE):
            clear = partial(
                _clear,
                engine=engine,
                generation_ids=ids[start : start + _CLEARED_AT_ONCE],
                reason=reason,
                may_cost=engine not in self._free_engines,
                retention_seconds=self._retention_seconds,
            )
            events = await self._database.run(clear, on_commit=self._publish)
            cleared += len(events)
        return cleared

    @abstractmethod
    def _publish(self, events: Sequence[Event]) -> None:
        """Tell watchers and observers."""

    @abstractmethod
    def _wake_workers(self, engine: str, queued: int) -> None:
        """Let the engine's workers claim, of whom none has since so many generations wait."""


def _clear(
    db: Connection,
    *,
    engine: str,
    generation_ids: Sequence[str],
    reason: str,
    may_cost: bool,
    retention_seconds: float,
) -> list[Event]:
    """End those of the generations that still wait for the engine; their last events."""
    events = []
    holes = ", ".join("?" * len(generation_ids))
    for record in rows.find_records(db, f"id IN ({holes})", tuple(generation_ids)):
        generation = record.generation
        if generation.engine != engine:  # another engine took over meanwhile
            continue
        _, change = records.cancel(
            record,
            CancelCause.CANCEL_CAUSE_QUEUE_CLEARED,
            reason=reason,
            may_cost=may_cost,
            now=current_timestamp(),
            retention_seconds=retention_seconds,
        )
        if change is not None:
            usage.charge_ended(db, record)
            events.append(rows.write(db, change))
    return events
