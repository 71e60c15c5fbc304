"""Connections to PostgreSQL that run the statements which SQLite runs, and give up on a server that is gone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PLACE = re.compile(r"\?(\d*)")
_SETTINGS = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "atelier",
}
"""Of every connection, unless its address says otherwise: a server that is gone is noticed within seconds."""
_SESSION = (
    "SET TIME ZONE 'UTC'; SET client_encoding = 'UTF8'; SET lock_timeout = '10s'; "
    "SET idle_in_transaction_session_timeout = '5s'"
)
"""A process that is frozen in a transaction holds its locks no longer than that."""


_LOGGED = (
    "WITH written AS ({statement} RETURNING id, sequence), logged AS ("
    "INSERT INTO events (generation_id, sequence, record) SELECT id, sequence - ? + number, record"
    " FROM written, unnest(?::bytea[]) WITH ORDINALITY AS event (record, number)"
    ") SELECT sequence FROM written"
)


class PostgresConnection:
    """Runs statements as a connection of `sqlite3` does, in the transaction that is under way."""

    queue_order = "place"
    """The column by which generations that wait are ordered."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """Run them on this connection."""
        self.connection = connection
        self.written = 0
        """How many statements have written something, or have failed."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> RawCursor[Any]:
        """Run one statement; question marks stand for the values."""
        if not statement.startswith("SELECT"):
            self.written += 1
        cursor = RawCursor(self.connection)
        return cursor.execute(translate(statement), values, binary=True)

    def executemany(self, statement: str, values: Sequence[Sequence[Any]], /) -> RawCursor[Any]:
        """Run one statement for each row of values."""
        self.written += 1
        cursor = RawCursor(self.connection)
        if len(values) == 1:  # needs no pipeline
            return cursor.execute(translate(statement), values[0])
        cursor.executemany(translate(statement), values)
        return cursor

    def write_logged(
        self, statement: str, values: Sequence[Any], records: Sequence[bytes]
    ) -> int | None:
        """See sql.event_rows.write_logged."""
        logged = _LOGGED.format(statement=statement)
        found = self.execute(logged, (*values, len(records), list(records))).fetchone()
        return None if found is None else int(found[0])


@lru_cache(maxsize=512)
def translate(statement: str) -> bytes:
    """The statement with PostgreSQL's names for the places of values: `$1` for the first `?`, or for `?1`."""
    count = 0

    def name(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"${match[1] or count}"

    return _PLACE.sub(name, statement).encode()


def connect(dsn: str, *, process: int | None = None) -> psycopg.Connection[Any]:
    """A new connection, outside of any transaction; what it claims belongs to the process of that number.

    Raises:
        psycopg.OperationalError: the server does not answer, or does not let us in.
    """
    connection = psycopg.connect(describe(dsn), autocommit=True)
    prepare(connection)
    if process is not None:
        connection.execute("SELECT set_config('atelier.process', %s, false)", (str(process),))
    return connection


def describe(dsn: str) -> str:
    """The address of a database, with what every connection needs.

    Raises:
        psycopg.ProgrammingError: it is no address of a database.
    """
    given = conninfo_to_dict(dsn)
    return make_conninfo(**{**_SETTINGS, **{key: str(value) for key, value in given.items()}})


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Set what every connection needs once it is open."""
    connection.prepare_threshold = 1
    connection.prepared_max = 500
    connection.execute(_SESSION)


def is_lost(connection: psycopg.Connection[Any]) -> bool:
    """Whether nothing can be asked of this connection any more."""
    return connection.closed or connection.broken
