"""Keeps in the database what each server has told about its engines."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import partial

from atelier_server.store.postgres.connections import PostgresConnection
from atelier_server.store.postgres.database import PostgresDatabase
from atelier_server.store.postgres.processes import DEAD, Lease
from atelier_server.store.worker_protocol import Registered, Registration

# ruff: noqa: S608 (only a condition of `processes` is put into statements)
_FORGET_INTERVAL_SECONDS = 60.0
_ALIVE = f"EXISTS (SELECT 1 FROM processes WHERE id = r.worker AND NOT {DEAD})"
_WRITE = """
INSERT INTO registrations (engine, worker, place, digest, offer, load, seen)
    VALUES (?, ?, ?, ?, ?, ?, clock_timestamp())
    ON CONFLICT (engine, worker) DO UPDATE SET place = excluded.place, digest = excluded.digest, load = excluded.load,
        offer = CASE WHEN registrations.digest = excluded.digest THEN registrations.offer ELSE excluded.offer END,
        seen = excluded.seen
"""
_READ = f"""
SELECT r.engine, r.worker, r.place, r.digest, r.load, {_ALIVE},
    extract(epoch FROM clock_timestamp() - r.seen)::double precision
FROM registrations r ORDER BY r.worker, r.place
"""
_FORGET = f"""
DELETE FROM registrations r WHERE NOT {_ALIVE} AND (seen < clock_timestamp() - interval '1 day' OR EXISTS
    (SELECT 1 FROM registrations other JOIN processes p ON p.id = other.worker
     WHERE other.engine = r.engine AND p.lease > clock_timestamp()))
"""


class PostgresWorkerRegistry:
    """See worker_protocol.WorkerRegistry."""

    def __init__(self, database: PostgresDatabase, lease: Lease) -> None:
        """Register under the number of this process, whose lease this is."""
        self._database = database
        self._lease = lease
        self._offers: dict[bytes, bytes] = {}
        self._forget_due = 0.0

    async def register(self, engines: Sequence[Registration]) -> None:
        """See WorkerRegistry.register."""
        rows = [
            (
                each.engine,
                self._lease.process,
                each.place,
                hashlib.sha256(each.offer).digest(),
                each.offer,
                each.load,
            )
            for each in engines
        ]
        if rows:
            await self._database.run_claimed(lambda db: db.executemany(_WRITE, rows))
        if time.monotonic() >= self._forget_due:
            self._forget_due = time.monotonic() + _FORGET_INTERVAL_SECONDS
            await self._database.run(lambda db: db.execute(_FORGET, (float(self._lease.seconds),)))

    async def list_registered(self) -> Sequence[Registered]:
        """See WorkerRegistry.list_registered. An offer is read once."""
        find = partial(_read, known=self._offers, lease_seconds=self._lease.seconds)
        found, self._offers = await self._database.read(find)
        return found

    async def is_any_alive(self) -> bool:
        """Whether there is any server that runs engines."""
        query = f"SELECT EXISTS (SELECT 1 FROM registrations r WHERE {_ALIVE})"
        values = (float(self._lease.seconds),)
        return await self._database.read(
            lambda db: bool(db.execute(query, values).fetchall()[0][0])
        )


def _read(
    db: PostgresConnection, known: dict[bytes, bytes], lease_seconds: float
) -> tuple[list[Registered], dict[bytes, bytes]]:
    """What is registered, and the offers by their digests."""
    rows = db.execute(_READ, (float(lease_seconds),)).fetchall()
    digests = {bytes(row[3]) for row in rows}
    offers = {digest: known[digest] for digest in digests & known.keys()}
    if missing := [digest for digest in digests if digest not in offers]:
        query = "SELECT digest, offer FROM registrations WHERE digest = ANY(?)"
        offers.update(
            (bytes(digest), bytes(offer)) for digest, offer in db.execute(query, (missing,))
        )
    found = [
        Registered(
            worker=worker,
            registration=Registration(
                engine=engine, place=place, offer=offers[bytes(digest)], load=bytes(load)
            ),
            alive=alive,
            silent_seconds=max(0.0, silent),
        )
        for engine, worker, place, digest, load, alive, silent in rows
    ]
    return found, offers
