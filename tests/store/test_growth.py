"""No operation of the embedded store does more work as queue and history grow."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import State
from atelier_server.errors import QueueFullError
from atelier_server.ids import new_id
from atelier_server.store.protocol import Claim, Event, Query
from atelier_server.store.sql import expiry, history, listing, operations, recovery, rows, waiting
from atelier_server.store.sqlite.migrations import migrate
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import submission, succeeded, sweep

Operation = Callable[[sqlite3.Connection], object]
FEW, MANY = 120, 1000
RUNNING = 3


def fill(db: sqlite3.Connection, count: int, *, one_caller: bool = True) -> None:
    """Add so many generations that wait, and as many that have expired, all of one caller; few run.

    Without `one_caller`, each that waits has another.
    """
    for name in range(count):
        for engine in ("sketch", "busy", "done"):
            caller = "ada" if one_caller or name == 0 or engine == "done" else f"caller{name}"
            added = submission(
                caller=caller,
                engine=engine,
                queue_limit=10**6,
                inputs=(f"upload-{name}",) if engine == "sketch" else (),
            )
            operations.submit(db, added)
        if name < RUNNING:
            claim(db, "busy")
        ended = claim(db, "done")
        operations.finish(db, ended, succeeded(ended, new_id()), [Event()], 0.0)
        upload = Artifact(id=f"upload-{name}")
        rows.add_artifacts(db, "ada", [upload])


def claim(db: sqlite3.Connection, engine: str) -> Claim:
    """Claim the oldest generation in the queue."""
    claimed = operations.claim(db, engine, lambda _: True)
    assert claimed is not None
    return claimed[0]


def release(db: sqlite3.Connection) -> None:
    """Claim the oldest generation, and return it."""
    claimed = claim(db, "sketch")
    given_back = operations.Release(generation=claimed.generation)
    operations.requeue(db, claimed, given_back, 1.0)


def move_behind_all(db: sqlite3.Connection) -> None:
    """Have a new generation run, and requeue it on the engine whose queue is long."""
    operations.submit(db, submission(engine="other"))
    claimed = claim(db, "other")
    claimed.generation.engine = "sketch"
    operations.requeue(db, claimed, operations.Release(generation=claimed.generation), 1)


def claim_past_others(db: sqlite3.Connection) -> None:
    """Claim past the generations of a caller who has as many running as it may."""
    operations.submit(db, submission(caller="bob", queue_limit=10**6))
    claimed = operations.claim(db, "sketch", lambda _: True, limits={"ada": 1}.get)
    assert claimed is not None
    assert claimed[0].caller != "ada"


def search(**conditions: object) -> Operation:
    """A list of five."""
    return lambda db: listing.search(db, Query(caller="ada", limit=5, **conditions))  # type: ignore[arg-type]  # fields by name


OPERATIONS: dict[str, Operation] = {
    "submit": lambda db: operations.submit(db, submission(queue_limit=10**6)),
    "claim": lambda db: claim(db, "sketch"),
    "claim past others": claim_past_others,
    "release": release,
    "requeue on another engine": move_behind_all,
    "queue depth": lambda db: waiting.count(db, "sketch"),
    "queues": history.count_waiting_by_engine,
    "list": search(),
    "list, later page": search(before="~"),
    "list of one engine": search(engine="done"),
    "list of one state": search(states=[State.STATE_SUCCEEDED]),
    "list of two states": search(states=[State.STATE_QUEUED, State.STATE_RUNNING]),
    "list of one engine and state": search(engine="done", states=[State.STATE_SUCCEEDED]),
    "list, nothing found": search(states=[State.STATE_FAILED]),
    "list, nothing of that engine found": search(engine="sketch", states=[State.STATE_FAILED]),
    "recovery at the start": lambda db: recovery.recover(db, 1.0, 3, ()),
    "one step of expiry": lambda db: expiry.delete_generations(db, time.time() + 10),
    "one step of expiry of artifacts": lambda db: expiry.delete_artifacts(db, time.time() + 10),
}


STEPS_FOR_CALLERS = {"recovery at the start": 7 * 2}
"""What looks at every caller and engine once: so many instructions a caller."""


def count_steps(db: sqlite3.Connection, operation: Operation) -> int:
    """How many instructions SQLite's virtual machine runs for the operation, which is undone."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    db.execute("BEGIN")
    db.set_progress_handler(count, 1)
    operation(db)
    db.set_progress_handler(None, 1)
    db.execute("ROLLBACK")
    return steps


@pytest.fixture(scope="module", params=["one caller", "many callers"])
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[sqlite3.Connection]]:
    """A file with few generations, and one with many."""
    opened = []
    for count in (FEW, MANY):
        path = tmp_path_factory.mktemp("growth") / "t.db"
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA foreign_keys = ON")
        migrate(db)
        db.execute("BEGIN")
        fill(db, count, one_caller=request.param == "one caller")
        db.execute("COMMIT")
        opened.append(db)
    yield opened
    for db in opened:
        db.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_work_of_an_operation_does_not_grow(files: list[sqlite3.Connection], name: str) -> None:
    """As many instructions with 120 generations of each kind as with 1,000, but for a few."""
    few, many = (count_steps(db, OPERATIONS[name]) for db in files)
    callers = [count_callers(db) for db in files]
    assert few > 0
    assert many <= few * 1.05 + 10 + STEPS_FOR_CALLERS.get(name, 0) * (callers[1] - callers[0])


def count_callers(db: sqlite3.Connection) -> int:
    """Of all that the file has."""
    return int(db.execute("SELECT count(DISTINCT caller) FROM generations").fetchone()[0])


async def test_the_kept_lengths_are_the_counted_ones(tmp_path: Path) -> None:
    """After every way into a queue and out of it, refused submissions and a restart included."""
    store = await SqliteStore.open(tmp_path / "t.db", retention_seconds=60, max_attempts=3)
    ids = [(await store.submit(submission())).generation.id for _ in range(9)]
    with pytest.raises(QueueFullError):
        await store.submit(submission(queue_limit=1))
    claims = [await store.claim("sketch") for _ in range(4)]
    await store.release(claims[0])
    claims[1].generation.engine = "other"
    await store.requeue_on_engine(claims[1], claims[1].generation, b"task")
    await store.finish(claims[2], succeeded(claims[2]), Event())
    await store.cancel("ada", ids[-1])
    await store.submit(submission(deadline=time.time() - 1))
    await sweep(store, time.time() + 1)
    assert await lengths(store) == {"sketch": (5, 5), "other": (1, 1)}
    await store.close()
    store = await SqliteStore.open(tmp_path / "t.db", retention_seconds=60, max_attempts=3)
    assert await lengths(store) == {"sketch": (6, 6), "other": (1, 1)}  # one ran
    await store.close()


async def lengths(store: SqliteStore) -> dict[str, tuple[int, int]]:
    """The length of each queue, as it is kept and as it is counted."""
    statement = (
        "SELECT engine, waiting, (SELECT count(*) FROM generations"
        " WHERE state = 1 AND generations.engine = queues.engine) FROM queues"
    )
    found = await store._database.read(lambda db: db.execute(statement).fetchall())
    return {engine: (kept, counted) for engine, kept, counted in found}
