"""Reads and writes artifacts; every function runs inside a transaction of `database.Database`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.errors import NotFoundError


def add(db: sqlite3.Connection, caller: str, artifacts: Iterable[Artifact]) -> None:
    """Add the records of stored blobs."""
    db.executemany(
        "INSERT INTO artifacts (id, caller, expires, record) VALUES (?, ?, ?, ?)",
        [
            (
                artifact.id,
                caller,
                artifact.expire_time.ToMicroseconds() / 1e6,
                artifact.SerializeToString(),
            )
            for artifact in artifacts
        ],
    )


def find(db: sqlite3.Connection, caller: str, artifact_id: str) -> Artifact:
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


def find_unknown(db: sqlite3.Connection, artifact_ids: Iterable[str]) -> list[str]:
    """Those of the ids that no artifact has."""
    found = (
        (artifact_id, db.execute("SELECT 1 FROM artifacts WHERE id = ?", (artifact_id,)).fetchone())
        for artifact_id in artifact_ids
    )
    return [artifact_id for artifact_id, known in found if known is None]
