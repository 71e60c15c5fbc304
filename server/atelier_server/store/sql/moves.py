"""Moves what waits for one engine to another."""

from __future__ import annotations

from dataclasses import replace

from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.clock import current_timestamp
from atelier_server.store import records
from atelier_server.store.priorities import is_batch
from atelier_server.store.protocol import Event, Waiting
from atelier_server.store.sql import rows, shares, usage
from atelier_server.store.sql.database import Connection, oldest_first
from atelier_server.store.sql.shares import Joining

# ruff: noqa: S608 (only the name of a column is put into a statement)


def list_waiting(db: Connection, engine: str, after: str, limit: int) -> list[Waiting]:
    """The oldest that wait for the engine, with ids over `after`, without those whose remote job may be running."""
    found = db.execute(
        "SELECT record, request, caller FROM generations WHERE state = 1 AND engine = ? AND id > ?"
        f" AND remote_handle = '' ORDER BY {oldest_first(db)} LIMIT ?",
        (engine, after, limit),
    )
    return [
        Waiting(
            generation=Generation.FromString(record),
            request=GenerateRequest.FromString(request),
            caller=caller,
        )
        for record, request, caller in found
    ]


def move(db: Connection, before: Generation, moved: Generation, task: bytes) -> Event | None:
    """Move the generation to the queue of the engine that `moved` names; None if it does not wait as `before` any more.

    Raises:
        NotFoundError: it was deleted.
    """
    record = rows.find(db, before.id).record
    if record.generation.state != State.STATE_QUEUED or record.generation.engine != before.engine:
        return None
    ahead = shares.count_ahead(
        db,
        moved.engine,
        Joining(generation_id=moved.id, tenant=record.caller, batch=is_batch(moved)),
    )
    usage.charge_ended(db, record)
    change = records.requeue(record, moved, ahead=ahead, now=current_timestamp())
    return rows.write(db, replace(change, task=task))
