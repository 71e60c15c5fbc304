"""Finds the generations of a caller, newest first; reads no row but those that it returns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.ids import make_request_id
from atelier_server.store.protocol import Page, Query, SubmitResult
from atelier_server.store.sql.database import Connection
from atelier_server.store.sql.rows import to_result

_STATES = tuple(State.values())
_AFTER_ALL = "~"  # greater than every id
_FRAME_BYTES = 5  # tag and length of a generation in the message that has the page


def search(db: Connection, query: Query) -> Page:
    """The newest generations that the query matches."""
    generations: list[Generation] = []
    size = 0
    for generation_id in _find_ids(db, query):
        if len(generations) == query.limit:
            return Page(generations=generations, complete=False)
        found = _read(db, generation_id)
        size += found.ByteSize() + _FRAME_BYTES
        if generations and size > query.max_bytes:
            return Page(generations=generations, complete=False)
        generations.append(found)
    return Page(generations=generations, complete=True)


def unnamed(db: Connection, caller: str, digest: bytes, expires_after: float) -> list[SubmitResult]:
    """What the same request of the caller made without an id, and has not ended or expires later; at most 64."""
    prefix = make_request_id("", digest)
    found = db.execute(
        "SELECT record, request FROM generations WHERE caller = ? AND request_id > ? AND request_id < ?"
        " AND digest = ? AND (expires IS NULL OR expires > ?) ORDER BY request_id DESC LIMIT 64",
        (caller, prefix, prefix + _AFTER_ALL, digest, expires_after),
    )
    return [to_result(record, request) for record, request in found]


def _find_ids(db: Connection, query: Query) -> Iterator[str]:
    """The ids of what matches: read from an index as far as they are asked for."""
    before = query.before or _AFTER_ALL
    if not query.engine and not query.states:
        return _ids(
            db,
            "SELECT id FROM generations WHERE caller = ? AND id < ? ORDER BY id DESC LIMIT ?",
            (query.caller, before, query.limit + 1),
        )
    engines = [query.engine] if query.engine else list(_engines(db, query.caller))
    ordered = (
        _ids(
            db,
            "SELECT id FROM generations WHERE caller = ? AND engine = ? AND state = ? AND id < ?"
            " ORDER BY id DESC LIMIT ?",
            (query.caller, engine, state, before, query.limit + 1),
        )
        for engine in engines
        for state in sorted(set(query.states or _STATES))
    )
    return merge(*ordered, reverse=True)


def _ids(db: Connection, statement: str, values: tuple[str | int, ...]) -> Iterator[str]:
    return (generation_id for (generation_id,) in db.execute(statement, values))


def _engines(db: Connection, caller: str) -> Iterator[str]:
    """The names of the engines that the caller's generations have: one search of the index each."""
    name = ""
    while found := db.execute(
        "SELECT engine FROM generations WHERE caller = ? AND engine > ? ORDER BY engine LIMIT 1",
        (caller, name),
    ).fetchone():
        (name,) = found
        yield name


def _read(db: Connection, generation_id: str) -> Generation:
    """The generation as lists show it: what repeats the task, or only serves to make it again, is left out."""
    (record,) = db.execute(
        "SELECT record FROM generations WHERE id = ?", (generation_id,)
    ).fetchone()
    generation = Generation.FromString(record)
    if generation.HasField("receipt"):
        generation.receipt.ClearField("parameters")
        generation.receipt.ClearField("recipe")
    return generation


def find_subjects(db: Connection, generation_ids: Sequence[str]) -> dict[str, str]:
    """By id, who of its caller asked for each generation, where that is known."""
    query = "SELECT subject FROM generations WHERE id = ?"
    found = ((each, db.execute(query, (each,)).fetchone()) for each in generation_ids)
    return {each: row[0] for each, row in found if row is not None and row[0]}
