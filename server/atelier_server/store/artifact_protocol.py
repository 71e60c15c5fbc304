"""What a store does with the records of stored blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.store.quotas import Allowance


class ArtifactRecords(Protocol):
    """The part of a store that keeps the records of blobs."""

    async def add_artifact(
        self, caller: str, artifact: Artifact, *, allowance: Allowance | None = None
    ) -> None:
        """Add the record of a stored blob.

        Raises:
            TenantQuotaError: the caller has stored as much as its allowance says; of uploads that come side by side,
                too, one at most is beyond it.
        """

    async def delete_artifacts(self, artifact_ids: Sequence[str]) -> None:
        """Delete the records of blobs, except of those that a generation needs."""

    async def get_artifact(self, caller: str, artifact_id: str) -> Artifact:
        """The record of a stored blob.

        Raises:
            NotFoundError: no such artifact, or it is another caller's.
        """

    async def find_unknown_artifacts(self, artifact_ids: Sequence[str]) -> Sequence[str]:
        """Those of the ids that have no record: blobs of attempts that never ended."""

    async def find_known_generations(self, generation_ids: Sequence[str]) -> Sequence[str]:
        """Those of the ids that have a record."""
