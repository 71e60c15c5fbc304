"""One connection of a thread, made anew when it was lost; and how long a thread bears with a database that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import ExecStatus

from atelier_server.errors import StorageError
from atelier_server.store.postgres.connections import PostgresConnection, is_lost

_PATIENCE_SECONDS = 5.0  # with a server that restarts
_PAUSE_SECONDS = 0.1
_PASSING = (
    "08",  # the connection failed
    "57P",  # the server stops, starts, or has crashed
    "53300",  # too many connections, as while those of before a restart are still open
    "25006",  # it has become a standby, and another one takes writes
)
"""SQLSTATEs, or how they begin, of a server with which all may go well soon."""

_ENDED = ("FATAL", "PANIC")
"""Severities of faults after which the server ends the connection."""


class Session:
    """Makes a connection when one is needed."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        """Use what `connect` returns."""
        self._connect = connect
        self._open: PostgresConnection | None = None
        self._away_since: float | None = None

    def open(self) -> PostgresConnection:
        """The connection.

        Raises:
            psycopg.OperationalError: the server does not answer, or does not let us in.
        """
        if self._open is None:
            self._open = PostgresConnection(self._connect())
        return self._open

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._open is not None:
            with suppress(psycopg.Error):
                self._open.connection.close()
        self._open = None

    def roll_back(self) -> None:
        """End the transaction, if one is under way."""
        try:
            if self._open is not None:
                run_plain(self._open.connection, b"ROLLBACK")
        except psycopg.Error:
            self.close()

    def note_answer(self) -> None:
        """Learn that the database has answered."""
        self._away_since = None

    def is_passing(self, error: psycopg.Error) -> bool:
        """Whether the server has ended the connection, or will soon take what it refuses now."""
        if self._open is None or is_lost(self._open.connection):
            return True
        state = error.sqlstate or ""  # the client may not have noticed the end yet
        return error.diag.severity_nonlocalized in _ENDED or state.startswith(_PASSING)

    def note_fault(self, error: psycopg.Error) -> bool:
        """Learn of a fault; whether the same may go well on a new connection, which `open` then makes."""
        if not self.is_passing(error):
            self.roll_back()
            return False
        self.close()
        if self._away_since is None:
            self._away_since = time.monotonic()
        return True

    def has_waited(self, since: float) -> bool:
        """Whether who asked at that time has waited long enough for a database that is away."""
        away = self._away_since
        return away is not None and time.monotonic() > max(since, away) + _PATIENCE_SECONDS


def pause() -> None:
    """Wait before the next try."""
    time.sleep(_PAUSE_SECONDS)


def run_plain(connection: psycopg.Connection[Any], statements: bytes) -> None:
    """Run statements without values or results, such as those that begin and end transactions.

    psycopg would forget at a ROLLBACK what it has prepared.

    Raises:
        psycopg.Error: the server refuses it, or the connection is lost.
    """
    if connection.closed:
        msg = "the connection is closed"
        raise psycopg.OperationalError(msg)
    result = connection.pgconn.exec_(statements)
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(result)


def describe_fault(error: psycopg.Error | None) -> StorageError:
    """The error that callers get for a fault of the database; without its address."""
    primary = error.diag.message_primary if error is not None else None
    fault = StorageError.from_fault(primary or "the database does not answer")
    fault.__cause__ = error
    return fault
