"""Finds the generations of a caller, newest first."""

from __future__ import annotations

import sqlite3

from atelier.v1.generation_pb2 import Generation
from atelier_server.store.protocol import Query

# ruff: noqa: S608 (only these conditions and question marks are put into statements)


def search(db: sqlite3.Connection, query: Query) -> list[Generation]:
    """The generations that the query matches, newest first."""
    conditions, values = ["caller = ?"], [query.caller]
    if query.before:
        conditions, values = [*conditions, "id < ?"], [*values, query.before]
    if query.engine:
        conditions, values = [*conditions, "engine = ?"], [*values, query.engine]
    if query.states:
        conditions.append(f"state IN ({', '.join(str(int(state)) for state in query.states)})")
    found = db.execute(
        f"SELECT record FROM generations WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
        (*values, query.limit),
    )
    return [Generation.FromString(record) for (record,) in found]
