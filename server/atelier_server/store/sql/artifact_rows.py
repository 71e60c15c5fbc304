"""Reads the records of artifacts, and finds blobs that no record names."""

from __future__ import annotations

from collections.abc import Iterable

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.errors import NotFoundError
from atelier_server.store.sql.database import Connection

# ruff: noqa: S608 (only these names of tables are put into statements)


def find_artifact(db: Connection, caller: str, artifact_id: str) -> Artifact:
    """The record of a stored blob.

    Raises:
        NotFoundError: it does not exist, or another caller owns it.
    """
    found = db.execute(
        "SELECT caller, record FROM artifacts WHERE id = ?", (artifact_id,)
    ).fetchone()
    if found is None or found[0] != caller:
        msg = f"no artifact {artifact_id!r}"
        raise NotFoundError(msg)
    return Artifact.FromString(found[1])


def delete_artifacts(db: Connection, artifact_ids: Iterable[str]) -> None:
    """Delete those of the records that no generation needs."""
    db.executemany(
        "DELETE FROM artifacts WHERE id = ?1"
        " AND NOT EXISTS (SELECT 1 FROM inputs WHERE artifact_id = ?1)",
        [(artifact_id,) for artifact_id in artifact_ids],
    )


def find_unknown_artifacts(db: Connection, artifact_ids: Iterable[str]) -> list[str]:
    """Those of the ids that no artifact has."""
    found = (
        (artifact_id, db.execute("SELECT 1 FROM artifacts WHERE id = ?", (artifact_id,)).fetchone())
        for artifact_id in artifact_ids
    )
    return [artifact_id for artifact_id, known in found if known is None]


def find_known_generations(db: Connection, generation_ids: Iterable[str]) -> list[str]:
    """Those of the ids that a generation has."""
    query = "SELECT 1 FROM generations WHERE id = ?"
    return [known for known in generation_ids if db.execute(query, (known,)).fetchone()]


def is_empty(db: Connection) -> bool:
    """Whether the file holds neither a generation nor an artifact."""
    return all(
        db.execute(f"SELECT id FROM {table} WHERE id > '' LIMIT 1").fetchone() is None
        for table in ("generations", "artifacts")
    )
