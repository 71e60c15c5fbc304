"""Writes databases with so many generations as a server gathers in days, in seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import ImageTask
from atelier_server.ids import new_id
from atelier_server.store.protocol import Event, Submission
from atelier_server.store.sql import operations
from atelier_server.store.sqlite.database import configure
from atelier_server.store.sqlite.migrations import migrate

_CALLER = "anonymous"
_COPIED = ("generations", "events", "artifacts")


def fill(path: Path, count: int, *, ended: bool = False) -> None:
    """Write a file with so many generations that wait, or that have ended with an artifact each."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        configure(db, "NORMAL")
        migrate(db)
        db.execute("BEGIN")
        submission = make_submission()
        operations.submit(db, submission)
        if ended:
            _end(db)
        _copy(db, submission.generation.id, count - 1)
        db.execute("COMMIT")


def make_submission() -> Submission:
    """A small task of its own."""
    task = ImageTask(prompt="a lighthouse", width=64, height=64)
    generation = Generation(id=new_id(), state=State.STATE_QUEUED, engine="sketch", image=task)
    generation.request_id = generation.id
    generation.create_time.GetCurrentTime()
    return Submission(
        generation=generation,
        request=GenerateRequest(engine="sketch", image=task),
        task=b"",
        caller=_CALLER,
        digest=b"",
        queue_limit=10**6,
        deadline=None,
    )


def _end(db: sqlite3.Connection) -> None:
    claimed = operations.claim(db, "sketch", lambda _: False)
    assert claimed is not None
    claim, _ = claimed
    generation = Generation()
    generation.CopyFrom(claim.generation)
    generation.state = State.STATE_SUCCEEDED
    generation.outputs.add().artifact.id = f"{generation.id}-1-0"
    operations.finish(db, claim, generation, [Event()], 3600)


def _copy(db: sqlite3.Connection, known_id: str, count: int) -> None:
    """Write all rows of the generation so many times more, each time under another id, which is as long."""
    ids = [new_id() for _ in range(count)]
    for table in _COPIED:
        rows = db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 (only these names)
        for row in rows:
            holes = ", ".join("?" * len(row))
            db.executemany(
                f"INSERT INTO {table} VALUES ({holes})",  # noqa: S608 (only these names)
                _replace(row, known_id, ids),
            )


def _replace(
    row: tuple[object, ...], known_id: str, ids: list[str]
) -> Iterator[tuple[object, ...]]:
    for other in ids:
        yield tuple(
            value.replace(known_id, other)
            if isinstance(value, str)
            else value.replace(known_id.encode(), other.encode())
            if isinstance(value, bytes)
            else value
            for value in row
        )
