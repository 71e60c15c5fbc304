"""What is read of many generations at once, as a part of an SQL store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atelier.v1.generation_pb2 import Generation
from atelier_server.store.protocol import Page, Query, Waiting
from atelier_server.store.quotas import Allowance, Usage
from atelier_server.store.sql import history, listing, moves, usage, waiting, work
from atelier_server.store.sql.artifact_records import SqlArtifactRecords
from atelier_server.store.work_protocol import EngineWork


class SqlOverviews(SqlArtifactRecords):
    """See protocol.Store."""

    async def list(self, query: Query) -> Page:
        """See Store.list."""
        return await self._database.read(lambda db: listing.search(db, query))

    async def find_subjects(self, generation_ids: Sequence[str]) -> Mapping[str, str]:
        """See Store.find_subjects."""
        return await self._database.read(lambda db: listing.find_subjects(db, generation_ids))

    async def queue_depth(self, engine: str, caller: str = "", *, batch: bool = False) -> int:
        """See Store.queue_depth."""
        return await self._database.read(lambda db: waiting.count(db, engine, caller, batch=batch))

    async def list_queued_engines(self) -> Sequence[str]:
        """See Store.list_queued_engines."""
        return list(await self._database.read(history.count_waiting_by_engine))

    async def list_waiting_tasks(self) -> Sequence[tuple[str, str, str, bool, bytes]]:
        """See Store.list_waiting_tasks."""
        return await self._database.read(history.list_waiting_tasks)

    async def list_succeeded_tasks(self, limit: int) -> Sequence[tuple[Generation, bytes]]:
        """See Store.list_succeeded_tasks."""
        return await self._database.read(lambda db: history.list_succeeded_tasks(db, limit))

    async def spent_today(self, engine: str) -> float:
        """See Store.spent_today."""
        return await self._database.read(lambda db: history.spent_today(db, engine))

    async def list_work(self) -> Mapping[str, EngineWork]:
        """See WorkStore.list_work."""
        return await self._database.read(work.list_work)

    async def list_newest_succeeded(self, limit: int) -> Sequence[tuple[Generation, float]]:
        """See WorkStore.list_newest_succeeded."""
        return await self._database.read(lambda db: work.list_newest_succeeded(db, limit))

    async def speaks_for_all(self) -> bool:
        """See WorkStore.speaks_for_all: no other process uses this store."""
        return True

    async def list_waiting(self, engine: str, after: str, limit: int) -> Sequence[Waiting]:
        """See Store.list_waiting."""
        return await self._database.read(lambda db: moves.list_waiting(db, engine, after, limit))

    async def find_usage(self, caller: str, allowance: Allowance) -> Usage:
        """See Store.find_usage."""
        return await self._database.run(lambda db: usage.find_usage(db, caller, allowance))
