"""Brings a database file to the newest version of the schema. The version stands in SQLite's `user_version`.

A new version is one more entry in `_MIGRATIONS`, and the same change in schema.sql; an entry that was released never
changes. Each runs in a transaction of its own, so an interrupted migration leaves the file as it was.
"""

from __future__ import annotations

import logging
import sqlite3
from importlib.resources import files

from atelier.v1.generation_pb2 import Generation
from atelier.v1.generation_service_pb2 import StreamProgressResponse
from atelier_server.errors import DatabaseUnusableError

_MIGRATIONS = (
    # 1: the decided task and the metadata of a generation; columns in the words of the protocol; indexes for what was
    # scanned or sorted before: the generations of a caller, and those that wait past their deadline.
    """
    ALTER TABLE generations RENAME COLUMN pool TO engine;
    ALTER TABLE generations RENAME COLUMN cancelling TO cancel_requested;
    ALTER TABLE generations RENAME COLUMN handle TO remote_handle;
    ALTER TABLE generations ADD COLUMN task BLOB NOT NULL DEFAULT x'';
    ALTER TABLE generations ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
    ALTER TABLE generations ADD COLUMN trace_context TEXT NOT NULL DEFAULT '{}';
    CREATE INDEX owner ON generations (caller, id);
    CREATE INDEX due ON generations (deadline) WHERE state = 1 AND deadline IS NOT NULL;
    """,
    # 2: the parameters of receipts under their present names.
    """
    UPDATE generations SET record = rename_parameters(record);
    UPDATE events SET record = rename_event_parameters(record);
    """,
    # 3: what waits for each engine as a number that triggers keep; an index for lists of one engine or state.
    """
    CREATE INDEX listed ON generations (caller, engine, state, id);
    CREATE INDEX attempted ON generations (id) WHERE state = 1 AND attempt > 0;
    CREATE TABLE queues (
        engine  TEXT PRIMARY KEY,
        waiting INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TRIGGER queue_entered_new AFTER INSERT ON generations WHEN new.state = 1 BEGIN
        INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
    END;

    CREATE TRIGGER queue_entered AFTER UPDATE OF state, engine ON generations
    WHEN new.state = 1 AND (old.state <> 1 OR old.engine <> new.engine) BEGIN
        INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
    END;

    CREATE TRIGGER queue_left AFTER UPDATE OF state, engine ON generations
    WHEN old.state = 1 AND (new.state <> 1 OR old.engine <> new.engine) BEGIN
        UPDATE queues SET waiting = waiting - 1 WHERE engine = old.engine;
    END;

    CREATE TRIGGER queue_left_deleted AFTER DELETE ON generations WHEN old.state = 1 BEGIN
        UPDATE queues SET waiting = waiting - 1 WHERE engine = old.engine;
    END;
    INSERT INTO queues (engine, waiting) SELECT engine, count(*) FROM generations WHERE state = 1 GROUP BY engine;
    """,
    # 4: how many transactions and generations there have been.
    """
    CREATE TABLE commits (
        id           INTEGER PRIMARY KEY CHECK (id = 1),
        file         BLOB NOT NULL DEFAULT (randomblob(16)),
        transactions INTEGER NOT NULL DEFAULT 0,
        generations  INTEGER NOT NULL DEFAULT 0
    );

    CREATE TRIGGER generation_accepted AFTER INSERT ON generations BEGIN
        UPDATE commits SET generations = generations + 1 WHERE id = 1;
    END;

    INSERT INTO commits (id, generations) SELECT 1, count(*) FROM generations;
    """,
    # 5: the engines that are paused.
    """
    CREATE TABLE pauses (
        engine TEXT PRIMARY KEY,
        record BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
)
"""The statement at place n leads from version n to version n + 1."""

_RENAMED_PARAMETERS = {
    "count": "num_images",
    "profile": "resource_profile",
    "safety": "safety_mode",
}

_INCREMENTAL = 2
_log = logging.getLogger(__name__)

VERSION = len(_MIGRATIONS)
"""The newest version of the schema."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version; a new file gets it at once.

    Raises:
        DatabaseUnusableError: a newer server wrote the file.
        sqlite3.Error: the file is damaged, or is no database of this server; it is left as it was.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        msg = f"its schema has version {version}, this server knows versions up to {VERSION}; start a newer server"
        raise DatabaseUnusableError(msg)
    if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        schema = files("atelier_server.store.sqlite").joinpath("schema.sql").read_text()
        _apply(connection, schema, VERSION)
        return
    for function in (rename_parameters, rename_event_parameters):
        connection.create_function(function.__name__, 1, function, deterministic=True)
    for index in range(version, VERSION):
        _apply(connection, _MIGRATIONS[index], index + 1)
    _enable_shrinking(connection)


def _enable_shrinking(connection: sqlite3.Connection) -> None:
    """Rewrite a file of an older version so that its unused pages can be given back.

    That needs free space of twice the file's size, partly in the directory for temporary files.
    """
    if connection.execute("PRAGMA auto_vacuum").fetchone() == (_INCREMENTAL,):
        return
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError as error:  # too little space: the next start tries again
        _log.warning("database_not_compacted", extra={"error": str(error)})


def rename_parameters(record: bytes) -> bytes:
    """The record of a generation, with the present names of the parameters in its receipt."""
    generation = Generation.FromString(record)
    _rename_in(generation)
    return generation.SerializeToString()


def rename_event_parameters(record: bytes) -> bytes:
    """The record of an event, with the present names of parameters if it carries its generation."""
    event = StreamProgressResponse.FromString(record)
    if event.HasField("generation"):
        _rename_in(event.generation)
    return event.SerializeToString()


def _rename_in(generation: Generation) -> None:
    for parameter in generation.receipt.parameters:
        parameter.name = _RENAMED_PARAMETERS.get(parameter.name, parameter.name)


def _apply(connection: sqlite3.Connection, statements: str, version: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {statements} PRAGMA user_version = {version}; COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
