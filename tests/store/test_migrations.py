"""Files of older versions open in this one, and files of newer versions are refused."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.errors import DatabaseUnusableError
from atelier_server.store.protocol import Event, Metadata, Query
from atelier_server.store.sqlite.migrations import VERSION, migrate, rename_parameters
from atelier_server.store.sqlite.store import SqliteStore
from tests.conftest import ROOT
from tests.store.conformance import log_of, succeeded

DATA = Path(__file__).parent / "data"


async def open_store(path: Path) -> SqliteStore:
    """The store over that file."""
    return await SqliteStore.open(path, retention_seconds=60, max_attempts=3)


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A copy of the file without a schema version."""
    return Path(shutil.copy(DATA / "version-0" / "atelier.db", tmp_path))


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that commits every statement."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


async def test_an_old_file_keeps_what_has_ended(old_file: Path) -> None:
    """Records, logs and artifacts of generations that an older version finished are read as they were."""
    store = await open_store(old_file)
    found = {made.request_id: made for made in await _all(store)}
    assert found["image"].state == State.STATE_SUCCEEDED
    assert found["image"].image.prompt == "a lighthouse"
    assert found["image"].outputs[0].artifact.media_type == "image/png"
    assert found["audio"].state == State.STATE_SUCCEEDED
    assert found["failed"].failure.reason == "ENGINE_FAILED"
    assert found["cancelled"].state == State.STATE_CANCELLED
    events = await log_of(store, found["image"].id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].generation == found["image"]
    artifact = found["image"].outputs[0].artifact
    assert await store.get_artifact("anonymous", artifact.id) == artifact
    await store.close()


async def test_receipts_of_an_old_file_have_the_present_names(old_file: Path) -> None:
    """In the record and in the last event."""
    store = await open_store(old_file)
    made = next(made for made in await _all(store) if made.request_id == "image")
    last = (await log_of(store, made.id))[-1]
    for generation in (made, last.generation):
        names = {parameter.name for parameter in generation.receipt.parameters}
        assert "num_images" in names
        assert "count" not in names
    await store.close()
    old = Generation()
    for name in ("count", "profile", "safety", "steps"):
        old.receipt.parameters.add(name=name)
    renamed = Generation.FromString(rename_parameters(old.SerializeToString()))
    assert [parameter.name for parameter in renamed.receipt.parameters] == [
        "num_images",
        "resource_profile",
        "safety_mode",
        "steps",
    ]


async def test_an_old_file_loses_nothing_that_waits_or_runs(old_file: Path) -> None:
    """What ran is requeued, what was to be cancelled ends, and all can be claimed: without a task, to be decided."""
    store = await open_store(old_file)
    states = {made.request_id: made.state for made in await _all(store)}
    assert states["cancelling"] == State.STATE_CANCELLED
    names = ("remote", "running", "waiting", "with-input")
    assert {states[name] for name in names} == {State.STATE_QUEUED}
    for name in names:
        claim = await store.claim("slow")
        assert claim.generation.request_id == name
        assert (claim.task, claim.metadata) == (b"", Metadata())
        assert claim.remote_handle == ("job-7" if name == "remote" else "")
        assert claim.request.image.prompt
        await store.save_task(claim, claim.generation, b"decided")
        await store.finish(claim, succeeded(claim), Event())
        events = await log_of(store, claim.generation.id)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert await store.queue_depth("slow") == 0
    await store.close()


@pytest.mark.parametrize("version", [0, 5])
async def test_a_migrated_file_has_the_schema_of_a_new_one(version: int, tmp_path: Path) -> None:
    """Same tables, columns, keys and indexes, whichever way the file came to the newest version."""
    old_file = Path(shutil.copy(DATA / f"version-{version}" / "atelier.db", tmp_path))
    await (await open_store(old_file)).close()
    await (await open_store(tmp_path / "new.db")).close()
    with connect(old_file) as old, connect(tmp_path / "new.db") as new:
        assert _schema(old) == _schema(new)
        assert _version(old) == _version(new) == VERSION
        for connection in (old, new):
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        migrate(old)
        assert _schema(old) == _schema(new)


async def test_the_queues_of_an_old_file_are_counted(old_file: Path) -> None:
    """What waits in the file is known by number when it is opened, and the number follows from then on."""
    with connect(old_file) as connection:
        migrate(connection)
        kept = connection.execute("SELECT engine, waiting FROM queues").fetchall()
        counted = "SELECT engine, count(*) FROM generations WHERE state = 1 GROUP BY engine"
        assert kept == connection.execute(counted).fetchall() != []


async def test_what_waits_in_an_old_file_is_shared_fairly(tmp_path: Path) -> None:
    """Each counts as one cost unit; the caller with the longer queue takes turns with the other from then on."""
    path = Path(shutil.copy(DATA / "version-5" / "atelier.db", tmp_path))
    store = await open_store(path)
    with connect(path) as connection:
        kept = "SELECT tenant, engine, waiting, cost, load FROM shares ORDER BY tenant, engine"
        assert connection.execute(kept).fetchall() == [
            ("ada", "sketch", 4, 4.0, 4.0),  # one of them ran
            ("bob", "other", 1, 1.0, 1.0),
            ("bob", "sketch", 2, 2.0, 2.0),
        ]
        sizes = "SELECT id, size FROM artifacts ORDER BY id"
        assert connection.execute(sizes).fetchall() == [("image", 3), ("upload", 700)]
    claims = []
    for _ in range(6):
        claims.append(await store.claim("sketch"))
        await store.finish(claims[-1], succeeded(claims[-1]), Event())
    names = [claim.generation.request_id for claim in claims]
    assert sorted(names[:4]) == ["ada-0", "bob-0", "bob-1", "running"]
    assert names[4:] == ["ada-1", "ada-2"]
    assert (claims[0].task, claims[0].metadata.subject) == (b"decided", "")
    assert (await store.list_pauses())["other"].reason == "maintenance"
    await store.close()


SHORT_OF_SPACE = """
import asyncio, os, resource, sys
from pathlib import Path
from atelier_server.store.sqlite.store import SqliteStore
from tests.conftest import ROOT
from tests.store.conformance import submission

async def main() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**21, 2**21))
    store = await SqliteStore.open(Path(sys.argv[1]), retention_seconds=60, max_attempts=3)
    print((await store.submit(submission())).generation.id, flush=True)
    os._exit(0)

asyncio.run(main())
"""
"""Opens the store where no file may become greater than 2 MiB, and has it accept a generation."""


async def test_too_little_space_to_rewrite_a_file_stops_nothing(tmp_path: Path) -> None:
    """An old file that cannot be made smaller now is used as it is; the next start with more space rewrites it."""
    path = tmp_path / "atelier.db"
    with connect(path) as connection:
        migrate(connection)  # without auto_vacuum, as older versions made it
        connection.execute("CREATE TABLE ballast AS SELECT zeroblob(4 * 1024 * 1024) AS bytes")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
    command = [sys.executable, "-c", SHORT_OF_SPACE, str(path)]
    short = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    accepted, log = await short.communicate()
    assert short.returncode == 0, log
    assert b"database_not_compacted" in log
    store = await open_store(path)
    assert (await store.get("ada", accepted.decode().strip())).state == State.STATE_QUEUED
    await store.close()
    with connect(path) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """The message names both versions and the file, which stays as it is."""
    path = tmp_path / "atelier.db"
    await (await open_store(path)).close()
    with connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    expected = rf"atelier\.db.*version {VERSION + 1}.*up to {VERSION}"
    with pytest.raises(DatabaseUnusableError, match=expected):
        await open_store(path)
    assert path.read_bytes() == before


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Its first statements are undone with the one that fails."""
    path = tmp_path / "atelier.db"
    with connect(path) as connection:
        connection.execute("CREATE TABLE generations (id TEXT PRIMARY KEY, pool TEXT)")
        before = _schema(connection)
    with pytest.raises(DatabaseUnusableError, match="cancelling"):
        await open_store(path)
    with connect(path) as connection:
        assert (_schema(connection), _version(connection)) == (before, 0)


async def _all(store: SqliteStore) -> list[Generation]:
    page = await store.list(Query(caller="anonymous", limit=100))
    return [await store.get("anonymous", listed.id) for listed in page.generations]


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _schema(connection: sqlite3.Connection) -> dict[str, object]:
    """Every table with its columns, foreign keys and indexes, and every trigger; in any order."""
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    return {
        **{name: _table(connection, name) for (name,) in tables},
        **{name: " ".join(sql.split()) for name, sql in triggers},
    }


def _table(connection: sqlite3.Connection, name: str) -> object:
    columns = connection.execute(f"PRAGMA table_info({name})").fetchall()
    indexes = {
        index: (
            unique,
            partial,
            [column for _, _, column in connection.execute(f"PRAGMA index_info({index})")],
            connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,))
            .fetchone()[0]
            .partition("WHERE")[2],
        )
        for _, index, unique, origin, partial in connection.execute(f"PRAGMA index_list({name})")
        if origin == "c"
    }
    keys = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
    return sorted(column[1:] for column in columns), indexes, keys
