"""Brings a database to the newest version of the schema. The version stands in the table `schema_version`.

A new version is one more entry in `_MIGRATIONS`, and the same change in schema.sql; an entry that was released never
changes. All run in one transaction, so an interrupted migration leaves the database as it was. One process at a time.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import psycopg

from atelier_server.errors import DatabaseUnusableError

_WRITERS = """
CREATE TABLE writers (
    process      BIGINT NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    transactions BIGINT NOT NULL,
    PRIMARY KEY (process, name)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""
_PRIORITIES = """
ALTER TABLE generations ADD COLUMN batch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE shares ADD COLUMN overtaken DOUBLE PRECISION NOT NULL DEFAULT 0;
DROP INDEX queue_of_tenant;
CREATE INDEX queue_of_tenant ON generations (engine, caller, batch, place) WHERE state = 1;

CREATE OR REPLACE FUNCTION leave_queue() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    claimed CONSTANT BOOLEAN := new.state = 2;
BEGIN
    UPDATE queues SET waiting = waiting - 1, virtual_time = CASE WHEN claimed THEN greatest(virtual_time,
        (SELECT served FROM shares WHERE tenant = old.caller AND engine = old.engine)) ELSE virtual_time END
    WHERE engine = old.engine;
    UPDATE shares SET waiting = waiting - 1,
        cost = CASE WHEN waiting > 1 THEN cost - old.cost ELSE 0 END,
        load = CASE WHEN waiting > 1 THEN load - old.cost / old.weight ELSE 0 END,
        served = served + CASE WHEN claimed THEN old.cost / old.weight ELSE 0 END,
        used = CASE WHEN day = current_date THEN used ELSE 0 END + CASE WHEN claimed THEN old.cost ELSE 0 END,
        spent = CASE WHEN day = current_date THEN spent ELSE 0 END, day = current_date,
        overtaken = CASE WHEN NOT claimed THEN overtaken WHEN old.batch = 0 AND EXISTS (
            SELECT 1 FROM generations WHERE state = 1 AND engine = old.engine AND caller = old.caller AND batch = 1)
            THEN overtaken + old.cost ELSE 0 END
    WHERE tenant = old.caller AND engine = old.engine;
    RETURN NULL;
END $$;
"""
_WORKERS = """
CREATE TABLE registrations (
    engine TEXT COLLATE "C" NOT NULL,
    worker BIGINT NOT NULL,
    place  BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    offer  BYTEA NOT NULL,
    load   BYTEA NOT NULL,
    seen   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (engine, worker)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""
_ATTENDANCES = """
ALTER TABLE generations ADD COLUMN submitter BIGINT;
ALTER TABLE generations ALTER COLUMN submitter SET DEFAULT nullif(current_setting('atelier.process', true), '')::bigint;

CREATE TABLE attendances (
    generation TEXT COLLATE "C" NOT NULL,
    process    BIGINT NOT NULL,
    started    BOOLEAN NOT NULL,
    PRIMARY KEY (generation, process)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""
_MIGRATIONS = (_WRITERS, _PRIORITIES, _WORKERS, _ATTENDANCES)
"""The statements at place n lead from version n + 1 to version n + 2."""
_LOCK = 0x6174_656C_0000
_OLDEST_SERVER = 140000

VERSION = len(_MIGRATIONS) + 1
"""The newest version of the schema."""


def migrate(connection: psycopg.Connection[Any]) -> None:
    """Bring the database to the newest version; an empty one gets it at once.

    Raises:
        DatabaseUnusableError: a newer server wrote it, it has tables of something else, or PostgreSQL is too old.
        psycopg.Error: the server does not let us; the database is left as it was.
    """
    if connection.info.server_version < _OLDEST_SERVER:
        msg = f"PostgreSQL {connection.info.parameter_status('server_version')} is too old; 14 is the oldest that works"
        raise DatabaseUnusableError(msg)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = _find_version(connection)
        if version > VERSION:
            msg = f"its schema has version {version}, this server knows versions up to {VERSION}; start a newer server"
            raise DatabaseUnusableError(msg)
        if version == 0:
            connection.execute(
                files("atelier_server.store.postgres").joinpath("schema.sql").read_bytes()
            )
            return
        for statements in _MIGRATIONS[version - 1 :]:
            connection.execute(statements.encode())
        connection.execute("UPDATE schema_version SET version = %s", (VERSION,))


def _find_version(connection: psycopg.Connection[Any]) -> int:
    """The version of the database; 0 for an empty one."""
    tables = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename IN"
        " ('schema_version', 'generations')"
    ).fetchall()
    if ("schema_version",) in tables:
        found = connection.execute("SELECT version FROM schema_version").fetchone()
        return int(found[0]) if found is not None else 0
    if tables:
        msg = "its tables are those of something else; name a database or a schema of its own"
        raise DatabaseUnusableError(msg)
    return 0
