"""Reads what there is to do, what was spent, and how long the newest work took; most of it when a server starts."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation
from atelier_server.store.protocol import Claim
from atelier_server.store.records import Record
from atelier_server.store.sql import rows
from atelier_server.store.sql.database import Connection


def list_waiting_tasks(db: Connection) -> list[tuple[str, str, str, bool, bytes]]:
    """Id, engine, caller, priority and decided task of every generation that waits."""
    query = "SELECT id, engine, caller, batch, task FROM generations WHERE state = 1"
    return [(*names, bool(batch), task) for *names, batch, task in db.execute(query)]


def list_succeeded_tasks(db: Connection, limit: int) -> list[tuple[Generation, bytes]]:
    """Record and decided task of those of the newest `limit` generations that have succeeded, oldest first."""
    found = db.execute(
        "SELECT record, task FROM (SELECT id, state, record, task FROM generations ORDER BY id DESC LIMIT ?) AS newest"
        " WHERE state = 3 ORDER BY id",
        (limit,),
    )
    return [(Generation.FromString(record), task) for record, task in found]


def running(db: Connection) -> list[Record]:
    """The generations in the state RUNNING, oldest first."""
    return list(rows.find_records(db, f"{rows.RUNNING} ORDER BY id", ()))


def list_cancelled_jobs(db: Connection) -> list[Claim]:
    """What is to be cancelled in the state RUNNING, and has a job at a remote service."""
    condition = f"{rows.RUNNING} AND cancel_requested <> 0 AND remote_handle <> '' ORDER BY id"
    return [stored.to_claim(record) for record, stored in rows.find_stored(db, condition)]


def attempted(db: Connection) -> list[Record]:
    """The generations that wait for another attempt."""
    return list(rows.find_records(db, f"{rows.WAITING} AND attempt > 0 ORDER BY id", ()))


def count_waiting_by_engine(db: Connection) -> dict[str, int]:
    """How many wait for each engine for which any wait."""
    found = db.execute("SELECT engine, waiting FROM queues WHERE engine >= '' AND waiting > 0")
    return dict(found.fetchall())


def greatest_id(db: Connection) -> str:
    """The greatest id of a generation; empty when there is none."""
    query = "SELECT id FROM generations WHERE id > '' ORDER BY id DESC LIMIT 1"
    found = db.execute(query).fetchone()
    return found[0] if found else ""


def spent_today(db: Connection, engine: str) -> float:
    """Cost of the engine since midnight UTC."""
    found = db.execute(
        "SELECT amount FROM spending WHERE engine = ? AND day = current_date", (engine,)
    ).fetchone()
    return found[0] if found else 0.0
