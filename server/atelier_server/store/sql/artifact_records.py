"""The records of stored blobs, as a part of an SQL store."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.store.quotas import Allowance, require_storage
from atelier_server.store.sql import artifact_rows, rows, usage
from atelier_server.store.sql.database import Connection, Database


class SqlArtifactRecords:
    """See protocol.Store."""

    def __init__(self, database: Database) -> None:
        """Keep the records in this database."""
        self._database = database

    async def add_artifact(
        self, caller: str, artifact: Artifact, *, allowance: Allowance | None = None
    ) -> None:
        """See Store.add_artifact."""

        def add(db: Connection) -> None:
            if allowance is not None:
                require_storage(caller, allowance, usage.find_usage(db, caller, allowance))
            rows.add_artifacts(db, caller, [artifact])

        await self._database.run(add)

    async def delete_artifacts(self, artifact_ids: Sequence[str]) -> None:
        """See Store.delete_artifacts."""
        await self._database.run(lambda db: artifact_rows.delete_artifacts(db, artifact_ids))

    async def get_artifact(self, caller: str, artifact_id: str) -> Artifact:
        """See Store.get_artifact."""
        return await self._database.read(
            lambda db: artifact_rows.find_artifact(db, caller, artifact_id)
        )

    async def find_unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """See Store.find_unknown_artifacts."""
        return await self._database.read(
            lambda db: artifact_rows.find_unknown_artifacts(db, artifact_ids)
        )

    async def find_known_generations(self, generation_ids: Sequence[str]) -> Sequence[str]:
        """See Store.find_known_generations."""
        return await self._database.read(
            lambda db: artifact_rows.find_known_generations(db, generation_ids)
        )

    async def is_empty(self) -> bool:
        """See Store.is_empty."""
        return await self._database.read(artifact_rows.is_empty)
