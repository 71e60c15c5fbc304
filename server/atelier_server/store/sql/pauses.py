"""The engines that begin nothing; all in a transaction of `Database`."""

from __future__ import annotations

from atelier.v1.engine_pb2 import EnginePause
from atelier_server.store.sql.database import Connection


def is_paused(db: Connection, engine: str) -> bool:
    """Whether the engine begins nothing."""
    return db.execute("SELECT 1 FROM pauses WHERE engine = ?", (engine,)).fetchone() is not None


def pause(db: Connection, engine: str, pause: EnginePause) -> EnginePause:
    """Store the pause, in place of an earlier one."""
    db.execute(
        "INSERT INTO pauses (engine, record) VALUES (?, ?) ON CONFLICT (engine) DO UPDATE SET record = excluded.record",
        (engine, pause.SerializeToString()),
    )
    return pause


def resume(db: Connection, engine: str) -> bool:
    """Forget the pause; whether there was one."""
    return db.execute("DELETE FROM pauses WHERE engine = ?", (engine,)).rowcount > 0


def list_all(db: Connection) -> dict[str, EnginePause]:
    """Every pause, by engine."""
    found = db.execute("SELECT engine, record FROM pauses")
    return {engine: EnginePause.FromString(record) for engine, record in found}
