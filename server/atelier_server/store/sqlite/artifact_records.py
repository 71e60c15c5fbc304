"""The records of stored blobs, as a part of the embedded store."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.store.sqlite import artifact_rows, rows
from atelier_server.store.sqlite.database import Database


class SqliteArtifactRecords:
    """See protocol.Store."""

    def __init__(self, database: Database) -> None:
        """Keep the records in this database."""
        self._database = database

    async def add_artifact(self, caller: str, artifact: Artifact) -> None:
        """See Store.add_artifact."""
        await self._database.run(lambda db: rows.add_artifacts(db, caller, [artifact]))

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
