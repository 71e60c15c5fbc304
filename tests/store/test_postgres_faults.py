"""What calls see when PostgreSQL restarts, ends connections, or goes away while it commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import psycopg
import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.errors import StorageError
from atelier_server.store.postgres.store import PostgresStore
from atelier_server.store.protocol import Event
from tests.postgres_server import PostgresServer, postgres_server
from tests.store.conformance import log_of, submission, succeeded
from tests.store.losing_proxy import LosingProxy, run_losing_proxy
from tests.store.test_postgres import open_store

__all__ = ["postgres_server"]


@pytest.fixture
async def store(postgres_server: PostgresServer) -> AsyncIterator[PostgresStore]:
    """A store over an empty database."""
    opened = await open_store(postgres_server.make_database())
    yield opened
    await opened.close()


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[LosingProxy]:
    """A proxy before the server."""
    async with run_losing_proxy(postgres_server.port) as running:
        yield running


async def submit(store: PostgresStore) -> str:
    """The id of one more that waits."""
    return (await store.submit(submission(queue_limit=10_000))).generation.id


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("loses_answer", [False, True])
async def test_a_commit_whose_answer_is_lost_happens_once(
    postgres_server: PostgresServer,
    proxy: LosingProxy,
    loses_answer: bool,  # noqa: FBT001 (a column of the table)
    crashes: bool,  # noqa: FBT001 (the same)
) -> None:
    """Whether the server got it or not, and if it crashes at once: so do a submission, a claim and an end."""
    dsn = postgres_server.make_database().replace(str(postgres_server.port), str(proxy.port))
    store = await open_store(dsn)
    proxy.loses_answer = loses_answer
    if crashes:
        proxy.meanwhile = partial(asyncio.to_thread, postgres_server.crash)
    proxy.message = b"COMMIT\0"
    made = await submit(store)
    assert await store.queue_depth("sketch") == 1
    proxy.message = b"COMMIT\0"
    claim = await store.claim("sketch")
    assert (claim.generation.id, claim.attempt) == (made, 1)
    proxy.message = b"COMMIT\0"
    await store.finish(claim, succeeded(claim), Event())
    assert not proxy.message
    assert (await store.get("ada", made)).state == State.STATE_SUCCEEDED
    assert [event.sequence for event in await log_of(store, made)] == [1, 2, 3]
    await store.close()


async def test_calls_do_not_notice_that_their_connections_end(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    """At whatever moment the server ends them, also while it executes or commits something."""
    ended = asyncio.Event()

    async def go_on() -> list[str]:
        made = []
        while not ended.is_set():
            made.append(await submit(store))
            claim = await store.claim("sketch")
            await store.finish(claim, succeeded(claim), Event())
            await store.get("ada", made[-1])
        return made

    callers = [asyncio.create_task(go_on()) for _ in range(4)]
    await asyncio.to_thread(_end_connections, postgres_server, 60)
    ended.set()
    made = [each for ids in await asyncio.gather(*callers) for each in ids]
    assert len(set(made)) == len(made) > 0
    for each in made:
        assert (await store.get("ada", each)).state == State.STATE_SUCCEEDED
    assert await store.queue_depth("sketch") == 0


def _end_connections(server: PostgresServer, times: int) -> None:
    with psycopg.connect(server.address, autocommit=True) as connection:
        for _ in range(times):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'atelier' ORDER BY random() LIMIT 3"
            )
            time.sleep(0.03)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_calls_wait_for_a_restart(
    store: PostgresStore, postgres_server: PostgresServer, mode: str
) -> None:
    """Those that write and those that read; none fails while it lasts."""
    made = await submit(store)
    restarting = asyncio.create_task(asyncio.to_thread(postgres_server.restart, mode))
    while not restarting.done():
        await submit(store)
        await store.get("ada", made)
    await restarting
    await submit(store)


async def test_a_server_that_ends_when_all_have_left_still_serves(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    """It takes no new connection, and those that are open go on; then calls wait until it is back."""
    made = await submit(store)
    await store.get("ada", made)
    await asyncio.to_thread(postgres_server.refuse_connections)
    made = await submit(store)
    assert (await store.get("ada", made)).state == State.STATE_QUEUED
    await asyncio.to_thread(postgres_server.go_away)
    waiting = asyncio.create_task(submit(store))
    await asyncio.to_thread(postgres_server.come_back)
    assert (await store.get("ada", await waiting)).state == State.STATE_QUEUED


async def test_a_call_waits_for_a_database_that_is_away_longer(
    store: PostgresStore, postgres_server: PostgresServer
) -> None:
    """A call fails after some seconds; one that came later than that waits as long itself."""
    made = await submit(store)
    await asyncio.to_thread(postgres_server.go_away)
    refused = await asyncio.gather(
        *(submit(store) for _ in range(40)),
        *(store.get("ada", made) for _ in range(8)),
        return_exceptions=True,
    )
    assert {type(each) for each in refused} == {StorageError}
    waiting = [asyncio.create_task(submit(store)) for _ in range(2)]
    reading = asyncio.create_task(store.get("ada", made))
    await asyncio.to_thread(postgres_server.come_back)
    assert (await reading).id == made
    assert len(set(await asyncio.gather(*waiting))) == 2


async def test_calls_wait_for_a_free_connection(postgres_server: PostgresServer) -> None:
    """While those of before a restart are still open, for instance, and the server takes no more."""
    dsn = postgres_server.make_database()
    schema = dsn.rpartition("%3D")[2]
    with psycopg.connect(postgres_server.address, autocommit=True) as connection:
        connection.execute("CREATE ROLE crowded LOGIN")
        connection.execute(f"GRANT ALL ON SCHEMA {schema} TO crowded".encode())
        store = await open_store(dsn.replace("atelier@", "crowded@"))
        connection.execute("ALTER ROLE crowded CONNECTION LIMIT 0")
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'crowded'"
        )
        waiting = asyncio.create_task(submit(store))
        await asyncio.sleep(0.3)  # with too little of it, a fault would be missed, not invented
        assert not waiting.done()
        connection.execute("ALTER ROLE crowded CONNECTION LIMIT -1")
        await waiting
    await store.close()
