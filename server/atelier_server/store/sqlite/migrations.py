"""Brings a database file to the newest version of the schema. The version stands in SQLite's `user_version`.

A new version is one more entry in `_MIGRATIONS`, and the same change in schema.sql; an entry that was released never
changes. Each runs in a transaction of its own, so an interrupted migration leaves the file as it was.
"""

from __future__ import annotations

import logging
import sqlite3
from importlib.resources import files

from atelier.v1.artifact_pb2 import Artifact
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
    # 6: who asked, cost units, the share of each tenant in each queue, and the bytes that it stores.
    """
    ALTER TABLE generations ADD COLUMN subject TEXT NOT NULL DEFAULT '';
    ALTER TABLE generations ADD COLUMN cost REAL NOT NULL DEFAULT 1;
    ALTER TABLE generations ADD COLUMN weight REAL NOT NULL DEFAULT 1;
    ALTER TABLE queues ADD COLUMN virtual_time REAL NOT NULL DEFAULT 0;
    CREATE TABLE shares (
        tenant  TEXT NOT NULL,
        engine  TEXT NOT NULL,
        waiting INTEGER NOT NULL DEFAULT 0,
        cost    REAL NOT NULL DEFAULT 0,
        load    REAL NOT NULL DEFAULT 0,
        served  REAL NOT NULL DEFAULT 0,
        day     TEXT NOT NULL DEFAULT '',
        used    REAL NOT NULL DEFAULT 0,
        spent   REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, engine)
    ) WITHOUT ROWID;

    CREATE INDEX next_share ON shares (engine, served, tenant) WHERE waiting > 0;

    DROP TRIGGER queue_entered_new;
    DROP TRIGGER queue_entered;
    DROP TRIGGER queue_left;
    DROP TRIGGER queue_left_deleted;

    CREATE TRIGGER queue_entered_new AFTER INSERT ON generations WHEN new.state = 1 BEGIN
        INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
        INSERT INTO shares (tenant, engine, waiting, cost, load, served)
        SELECT new.caller, new.engine, 1, new.cost, new.cost / new.weight, virtual_time
        FROM queues WHERE engine = new.engine
        ON CONFLICT DO UPDATE SET waiting = waiting + 1, cost = cost + excluded.cost, load = load + excluded.load,
            served = iif(waiting > 0, served, max(served, excluded.served));
    END;

    CREATE TRIGGER queue_entered AFTER UPDATE OF state, engine ON generations
    WHEN new.state = 1 AND (old.state <> 1 OR old.engine <> new.engine) BEGIN
        INSERT INTO queues (engine, waiting) VALUES (new.engine, 1) ON CONFLICT DO UPDATE SET waiting = waiting + 1;
        INSERT INTO shares (tenant, engine, waiting, cost, load, served)
        SELECT new.caller, new.engine, 1, new.cost, new.cost / new.weight, virtual_time
        FROM queues WHERE engine = new.engine
        ON CONFLICT DO UPDATE SET waiting = waiting + 1, cost = cost + excluded.cost, load = load + excluded.load,
            served = iif(waiting > 0, served, max(served, excluded.served));
        UPDATE shares SET served = served - new.cost / new.weight,
            used = iif(day = date('now'), max(0, used - new.cost), used)
        WHERE tenant = new.caller AND engine = new.engine AND old.state = 2 AND old.engine = new.engine;
    END;

    CREATE TRIGGER queue_left AFTER UPDATE OF state, engine ON generations
    WHEN old.state = 1 AND (new.state <> 1 OR old.engine <> new.engine) BEGIN
        UPDATE queues SET waiting = waiting - 1, virtual_time = iif(new.state = 2, max(virtual_time,
            (SELECT served FROM shares WHERE tenant = old.caller AND engine = old.engine)), virtual_time)
        WHERE engine = old.engine;
        UPDATE shares SET waiting = waiting - 1, cost = iif(waiting > 1, cost - old.cost, 0),
            load = iif(waiting > 1, load - old.cost / old.weight, 0),
            served = served + iif(new.state = 2, old.cost / old.weight, 0),
            used = iif(day = date('now'), used, 0) + iif(new.state = 2, old.cost, 0),
            spent = iif(day = date('now'), spent, 0), day = date('now')
        WHERE tenant = old.caller AND engine = old.engine;
    END;

    CREATE TRIGGER queue_left_deleted AFTER DELETE ON generations WHEN old.state = 1 BEGIN
        UPDATE queues SET waiting = waiting - 1 WHERE engine = old.engine;
        UPDATE shares SET waiting = waiting - 1, cost = iif(waiting > 1, cost - old.cost, 0),
            load = iif(waiting > 1, load - old.cost / old.weight, 0)
        WHERE tenant = old.caller AND engine = old.engine;
    END;

    CREATE TRIGGER claimed_new AFTER INSERT ON generations WHEN new.state = 2 BEGIN
        INSERT INTO queues (engine, waiting) VALUES (new.engine, 0) ON CONFLICT DO UPDATE SET virtual_time =
            max(virtual_time, coalesce(
                (SELECT served FROM shares WHERE tenant = new.caller AND engine = new.engine), 0));
        INSERT INTO shares (tenant, engine, served, used, day)
        SELECT new.caller, new.engine, virtual_time + new.cost / new.weight, new.cost, date('now')
        FROM queues WHERE engine = new.engine
        ON CONFLICT DO UPDATE SET served = excluded.served, used = iif(day = excluded.day, used, 0) + excluded.used,
            spent = iif(day = excluded.day, spent, 0), day = excluded.day;
    END;

    INSERT INTO shares (tenant, engine, waiting, cost, load, served)
    SELECT caller, engine, sum(state = 1), sum(iif(state = 1, cost, 0)), sum(iif(state = 1, cost, 0)),
        sum(iif(state = 2, cost, 0))
    FROM generations WHERE state IN (1, 2) GROUP BY caller, engine;

    ALTER TABLE artifacts ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    UPDATE artifacts SET size = artifact_size(record);
    CREATE TABLE stored (
        tenant TEXT PRIMARY KEY,
        bytes  INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TRIGGER artifact_added AFTER INSERT ON artifacts BEGIN
        UPDATE stored SET bytes = bytes + new.size WHERE tenant = new.caller;
    END;

    CREATE TRIGGER artifact_deleted AFTER DELETE ON artifacts BEGIN
        UPDATE stored SET bytes = bytes - old.size WHERE tenant = old.caller;
    END;
    """,
    # 7: priorities.
    """
    ALTER TABLE generations ADD COLUMN batch INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE shares ADD COLUMN overtaken REAL NOT NULL DEFAULT 0;
    CREATE INDEX queue_of_tenant ON generations (engine, caller, batch, id) WHERE state = 1;

    DROP TRIGGER queue_left;

    CREATE TRIGGER queue_left AFTER UPDATE OF state, engine ON generations
    WHEN old.state = 1 AND (new.state <> 1 OR old.engine <> new.engine) BEGIN
        UPDATE queues SET waiting = waiting - 1, virtual_time = iif(new.state = 2, max(virtual_time,
            (SELECT served FROM shares WHERE tenant = old.caller AND engine = old.engine)), virtual_time)
        WHERE engine = old.engine;
        UPDATE shares SET waiting = waiting - 1, cost = iif(waiting > 1, cost - old.cost, 0),
            load = iif(waiting > 1, load - old.cost / old.weight, 0),
            served = served + iif(new.state = 2, old.cost / old.weight, 0),
            used = iif(day = date('now'), used, 0) + iif(new.state = 2, old.cost, 0),
            spent = iif(day = date('now'), spent, 0), day = date('now'),
            overtaken = CASE WHEN new.state <> 2 THEN overtaken WHEN old.batch = 0 AND EXISTS (
                SELECT 1 FROM generations WHERE state = 1 AND engine = old.engine AND caller = old.caller AND batch = 1)
                THEN overtaken + old.cost ELSE 0 END
        WHERE tenant = old.caller AND engine = old.engine;
    END;
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
    for function in (rename_parameters, rename_event_parameters, artifact_size):
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


def artifact_size(record: bytes) -> int:
    """Bytes of the artifact with that record."""
    return Artifact.FromString(record).size


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
