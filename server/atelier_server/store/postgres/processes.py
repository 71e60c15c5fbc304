"""The server processes that share a database, and the leases on what they run; times are those of the database.

A process renews one lease for all that it runs, on a connection and in a thread of its own: the renewal waits for no
other statement. When it has ended, another process takes over what the first one was running; the fence of each claim
makes void whatever the first one writes afterwards.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from atelier_server.store.postgres.connections import PostgresConnection, connect, is_lost
from atelier_server.store.records import Record, StoredFields
from atelier_server.store.sql import history, rows

# ruff: noqa: S608 (only conditions of `rows` are put into statements)
_ABANDONED = "owner NOT IN (SELECT id FROM processes)"
DEAD = (
    "(lease = '-infinity' OR (lease < clock_timestamp()"
    " AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => ?)))"
)
"""Of a process that has ended its lease, or not renewed it; nobody could while the database was down."""
_RENEWALS_PER_LEASE = 3
WRITERS = ("queues", "claims")
"""Those of each process, see writer.py."""
_FORGET_WRITERS = (
    "DELETE FROM writers WHERE (process, name) IN (SELECT process, name FROM writers"
    " WHERE process NOT IN (SELECT id FROM processes) FOR UPDATE SKIP LOCKED)"
)
"""But for those that are writing: nobody waits for a process that is frozen."""
_RENEW = (
    "INSERT INTO processes (id, lease) OVERRIDING SYSTEM VALUE"
    " VALUES (%s, clock_timestamp() + make_interval(secs => %s)) ON CONFLICT (id) DO UPDATE SET lease = excluded.lease"
)
"""Also after the lease has ended: what was taken over meanwhile is fenced off, and new work needs a lease."""


def register(connection: psycopg.Connection[Any], lease_seconds: float) -> int:
    """Add this process to the others, with its writers; its number, which no other process ever has."""
    with connection.transaction():
        found = connection.execute(
            "INSERT INTO processes (lease) VALUES (clock_timestamp() + make_interval(secs => %s)) RETURNING id",
            (lease_seconds,),
        ).fetchone()
        assert found is not None  # noqa: S101 (RETURNING)
        connection.execute(
            "INSERT INTO writers (process, name, transactions) SELECT %s, unnest(%s::text[]), 0",
            (found[0], list(WRITERS)),
        )
    return int(found[0])


def end_lease(db: PostgresConnection, process: int) -> None:
    """Let others take over at once what the process is running."""
    db.execute("UPDATE processes SET lease = '-infinity' WHERE id = ?", (process,))


def count(db: PostgresConnection) -> int:
    """How many processes have a lease, or had one that nobody has noticed the end of."""
    ((found,),) = db.execute("SELECT count(*) FROM processes")
    return int(found)


def speaks_for_all(db: PostgresConnection, process: int) -> bool:
    """Whether of all processes that have a lease this one has had it first."""
    found = db.execute("SELECT min(id) FROM processes WHERE lease > clock_timestamp()")
    return bool(found.fetchall() == [(process,)])


def is_any_dead(db: PostgresConnection, lease_seconds: float) -> bool:
    """Whether a lease has ended, or work belongs to a process that has none."""
    found = db.execute(
        f"SELECT EXISTS (SELECT 1 FROM processes WHERE {DEAD}) OR EXISTS"
        f" (SELECT 1 FROM generations WHERE {rows.RUNNING} AND {_ABANDONED})",
        (float(lease_seconds),),
    ).fetchall()
    return bool(found[0][0])


def take_over(
    db: PostgresConnection, lease_seconds: float
) -> dict[int, list[tuple[Record, StoredFields]]]:
    """What processes were running whose leases have ended, by the number of the process; these are forgotten."""
    db.execute(f"DELETE FROM processes WHERE {DEAD}", (float(lease_seconds),))
    db.execute(_FORGET_WRITERS)
    owners = db.execute(
        f"SELECT DISTINCT owner FROM generations WHERE {rows.RUNNING} AND {_ABANDONED}"
    ).fetchall()
    condition = f"{rows.RUNNING} AND owner = ? ORDER BY place"
    return {owner: list(rows.find_stored(db, condition, (owner,))) for (owner,) in owners}


@dataclass(frozen=True, slots=True)
class News:
    """What a process should know by now."""

    sequences: dict[str, int]
    """Number of the newest event, by generation that somebody follows."""
    queued: dict[str, int]
    """How many wait, by engine."""
    cancelled: list[str]
    """What it runs, and is to be cancelled."""


def find_news(db: PostgresConnection, *, process: int, followed: Sequence[str]) -> News:
    """What the process should know, of the generations that somebody follows in it."""
    sequences = db.execute(
        "SELECT id, sequence FROM generations WHERE id = ANY(?)", (list(followed),)
    )
    cancelled = (
        f"SELECT id FROM generations WHERE {rows.RUNNING} AND owner = ? AND cancel_requested <> 0"
    )
    return News(
        dict(sequences.fetchall()),
        history.count_waiting_by_engine(db),
        [generation_id for (generation_id,) in db.execute(cancelled, (process,))],
    )


class Lease:
    """Renews the lease of this process in a thread."""

    def __init__(self, dsn: str, process: int, lease_seconds: float) -> None:
        """Renew from now on."""
        self._dsn = dsn
        self.process = process
        """Its number in the database."""
        self.seconds = lease_seconds
        """How long it lasts."""
        self._renewed = time.monotonic()  # by `register`
        self._steady_since = self._renewed - lease_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew_often, name="store-lease", daemon=True)
        self._thread.start()

    def is_steady(self) -> bool:
        """Whether it was renewed in time for as long as it lasts: else those of others may have ended for want of that.

        The database was frozen, for instance, or this process was.
        """
        now = time.monotonic()
        return now - self._renewed <= self.seconds and now - self._steady_since >= self.seconds

    async def stop(self) -> None:
        """Renew no more."""
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _renew_often(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stopped.wait(self.seconds / _RENEWALS_PER_LEASE):
            with suppress(psycopg.Error):
                if connection is None or is_lost(connection):
                    connection = connect(self._dsn)
                connection.execute(_RENEW, (self.process, self.seconds))
                self._note_renewal()
        if connection is not None:
            connection.close()

    def _note_renewal(self) -> None:
        now = time.monotonic()
        if now - self._renewed > self.seconds:
            self._steady_since = now
        self._renewed = now
