"""Reads what there is to do, and how long the newest work took; once, when a server starts."""

from __future__ import annotations

import sqlite3

from atelier.v1.generation_pb2 import Generation


def list_waiting_tasks(db: sqlite3.Connection) -> list[tuple[str, str, bytes]]:
    """Id, engine and decided task of every generation that waits."""
    return db.execute("SELECT id, engine, task FROM generations WHERE state = 1").fetchall()


def list_succeeded_tasks(db: sqlite3.Connection, limit: int) -> list[tuple[Generation, bytes]]:
    """Record and decided task of those of the newest `limit` generations that have succeeded, oldest first."""
    found = db.execute(
        "SELECT record, task FROM (SELECT id, state, record, task FROM generations ORDER BY id DESC LIMIT ?)"
        " WHERE state = 3 ORDER BY id",
        (limit,),
    )
    return [(Generation.FromString(record), task) for record, task in found]
