"""Databases of older versions are migrated, and are then as new ones are."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.store.postgres.migrations import VERSION, migrate
from atelier_server.store.protocol import Event
from tests.postgres_server import PostgresServer, postgres_server
from tests.store.conformance import submission, succeeded
from tests.store.test_postgres import open_store

__all__ = ["postgres_server"]
DATA = Path(__file__).parent / "data"
_DESCRIBE = (
    (
        "SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns"
        " WHERE table_schema = current_schema() ORDER BY 1, 2"
    ),
    "SELECT replace(indexdef, current_schema(), '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
    "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = current_schema()::regnamespace ORDER BY 1",
    (
        "SELECT tgname, replace(pg_get_triggerdef(pg_trigger.oid), current_schema(), '') FROM pg_trigger"
        " JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal ORDER BY 1, 2"
    ),
    "SELECT relname, reloptions FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY 1",
    "SELECT version FROM schema_version",
)


def make_old(dsn: str, version: int) -> None:
    """Make the tables as that version made them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((DATA / f"postgres-{version}" / "schema.sql").read_bytes())


def describe(dsn: str) -> list[list[tuple[object, ...]]]:
    """All that a schema has but its rows."""
    with psycopg.connect(dsn) as connection:
        return [connection.execute(query).fetchall() for query in _DESCRIBE]


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_an_older_database_becomes_as_a_new_one(
    postgres_server: PostgresServer, version: int
) -> None:
    """In all of its tables, indexes, functions and triggers."""
    old, new = postgres_server.make_database(), postgres_server.make_database()
    make_old(old, version)
    for dsn in (old, new):
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate(connection)
    for migrated, made in zip(describe(old), describe(new), strict=True):
        assert migrated == made


@pytest.mark.parametrize("version", range(1, VERSION))
async def test_what_waits_in_an_older_database_is_executed(
    postgres_server: PostgresServer, version: int
) -> None:
    """And so is what is added to its queue."""
    dsn = postgres_server.make_database()
    make_old(dsn, version)
    waiting = submission()
    with psycopg.connect(dsn) as connection:
        made = waiting.generation
        connection.execute(
            "INSERT INTO generations (id, caller, request_id, digest, engine, state, request, record)"
            " VALUES (%s, %s, %s, %s, %s, 1, %s, %s)",
            (
                made.id,
                waiting.caller,
                made.id,
                waiting.digest,
                made.engine,
                waiting.request.SerializeToString(),
                made.SerializeToString(),
            ),
        )
    store = await open_store(dsn)
    await store.submit(submission())
    assert await store.queue_depth("sketch") == 2
    claim = await store.claim("sketch")
    assert claim.generation.id == made.id
    ended = await store.finish(claim, succeeded(claim), Event())
    assert ended.state == State.STATE_SUCCEEDED
    assert await store.queue_depth("sketch") == 1
    await store.close()
