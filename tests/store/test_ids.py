"""Ids go on from those of earlier processes, whatever the clock says."""

from __future__ import annotations

import time
from pathlib import Path

from atelier_server.ids import new_id
from atelier_server.store.protocol import Query
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import submission

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


async def open_store(path: Path) -> SqliteStore:
    """The store over that file."""
    return await SqliteStore.open(path, retention_seconds=60, max_attempts=3)


def id_at(unix_seconds: float) -> str:
    """The id of that time, by the specification of ULIDs."""
    value = int(unix_seconds * 1000) << 80
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(26)))


async def test_a_clock_that_was_set_back_puts_nothing_before_what_waits(tmp_path: Path) -> None:
    """What an earlier process accepted an hour ahead of this clock is older than what is accepted now."""
    path = tmp_path / "atelier.db"
    store = await open_store(path)
    early = submission()
    early.generation.id = early.generation.request_id = id_at(time.time() + 3600)
    await store.submit(early)
    await store.close()

    store = await open_store(path)
    later = [(await store.submit(submission())).generation.id for _ in range(3)]
    listed = (await store.list(Query(caller="ada", limit=9))).generations
    assert [generation.id for generation in listed] == [*later[::-1], early.generation.id]
    claimed = [(await store.claim("sketch")).generation.id for _ in range(4)]
    assert claimed == [early.generation.id, *later]
    assert later[-1] < new_id() < id_at(time.time() + 3700)
    await store.close()
