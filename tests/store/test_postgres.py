"""The PostgreSQL store passes the suite that every store passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from atelier.v1.generation_pb2 import State
from atelier_server.errors import ConflictError, DatabaseUnusableError
from atelier_server.store.postgres.migrations import VERSION
from atelier_server.store.postgres.store import PostgresStore, RecoveryRules
from atelier_server.store.protocol import ClaimLostError, Event, Store
from atelier_server.store.quotas import RunningLimits
from tests.postgres_server import PostgresServer, postgres_server
from tests.store.all_conformance import AllConformance
from tests.store.conformance import (
    Opener,
    log_of,
    submission,
    succeeded,
    sweep,
)

__all__ = ["postgres_server"]


class TestPostgresStore(AllConformance):
    """See StoreConformance."""

    @pytest.fixture
    async def opener(self, postgres_server: PostgresServer) -> AsyncIterator[Opener]:
        """Opens the same database each time."""
        dsn = postgres_server.make_database()
        opened: list[PostgresStore] = []

        async def open_store(
            *,
            max_attempts: int = 3,
            retention_seconds: float = 60,
            running_limits: RunningLimits | None = None,
        ) -> Store:
            store = await PostgresStore.open(
                dsn,
                lease_seconds=60,
                retention_seconds=retention_seconds,
                rules=RecoveryRules(max_attempts=max_attempts, running_limits=running_limits),
            )
            opened.append(store)
            return store

        yield open_store
        await opened[-1].close()


async def open_store(
    dsn: str, *, poll_seconds: float = 1, lease_seconds: float = 60
) -> PostgresStore:
    """A store of a process of its own, as far as the database can tell."""
    return await PostgresStore.open(
        dsn,
        lease_seconds=lease_seconds,
        retention_seconds=60,
        rules=RecoveryRules(max_attempts=3),
        poll_seconds=poll_seconds,
    )


async def test_a_process_leaves_the_work_of_others_alone(postgres_server: PostgresServer) -> None:
    """What they run is theirs as long as they renew their leases; what waits is for whoever comes first."""
    dsn = postgres_server.make_database()
    first = await open_store(dsn)
    ids = [(await first.submit(submission())).generation.id for _ in range(2)]
    claim = await first.claim("sketch")
    second = await open_store(dsn)
    assert (await second.get("ada", ids[0])).state == State.STATE_RUNNING
    other = await second.claim("sketch")
    assert other.generation.id == ids[1]
    for store, held in ((first, claim), (second, other)):
        assert (await store.finish(held, succeeded(held), Event())).state == State.STATE_SUCCEEDED
    await first.close()
    await second.close()


async def test_the_work_of_a_process_is_taken_over_when_its_lease_has_ended(
    postgres_server: PostgresServer,
) -> None:
    """The time is the database's; what the first process says afterwards is void, and what it claims anew is not."""
    dsn = postgres_server.make_database()
    first = await open_store(dsn)
    made = (await first.submit(submission())).generation.id
    claim = await first.claim("sketch")
    with psycopg.connect(dsn) as connection:  # as if the process were frozen for a minute
        connection.execute("UPDATE processes SET lease = clock_timestamp() - interval '1 second'")
    await asyncio.to_thread(time.sleep, 0.2)  # the database has been up for longer than this lease
    second = await open_store(dsn, lease_seconds=0.1)
    again = await second.claim("sketch")
    assert (again.generation.id, again.attempt) == (made, 2)
    with pytest.raises(ClaimLostError):
        await first.log(claim, [Event(step=1)])
    with pytest.raises(ClaimLostError):
        await first.finish(claim, succeeded(claim), Event())
    await second.finish(again, succeeded(again), Event())
    await second.close()
    await first.close()


async def test_processes_write_side_by_side(postgres_server: PostgresServer) -> None:
    """Each generation is accepted once and claimed once, and the queue is empty in the end."""
    dsn = postgres_server.make_database()
    stores = [await open_store(dsn) for _ in range(2)]
    named = [submission(request_id=f"r{number % 20}", queue_limit=1000) for number in range(80)]
    submitted = await asyncio.gather(
        *(stores[number % 2].submit(one) for number, one in enumerate(named))
    )
    assert sum(result.created for result in submitted) == 20
    with pytest.raises(ConflictError):
        await stores[1].submit(submission(request_id="r1", digest=b"2"))
    claims = await asyncio.gather(*(stores[number % 2].claim("sketch") for number in range(20)))
    assert len({claim.generation.id for claim in claims}) == 20
    await asyncio.gather(
        *(
            stores[number % 2].finish(claim, succeeded(claim), Event())
            for number, claim in enumerate(claims)
        )
    )
    assert await stores[0].queue_depth("sketch") == 0
    for store in stores:
        await store.close()


async def test_what_one_process_accepts_another_executes(postgres_server: PostgresServer) -> None:
    """Its worker is told, and so is whoever waits or watches at the first process: every event once, in order."""
    dsn = postgres_server.make_database()
    first, second = [await open_store(dsn, poll_seconds=3600) for _ in range(2)]
    claiming = asyncio.create_task(second.claim("sketch"))
    await asyncio.sleep(0)
    made = (await first.submit(submission())).generation.id
    ending = asyncio.create_task(first.wait_ended("ada", made))
    watching = asyncio.create_task(log_of(first, made))
    claim = await claiming
    await first.wait_dispatched("ada", made)
    for step in range(1, 41):
        await second.log(claim, [Event(step=step)])
    await second.finish(claim, succeeded(claim, "image"), Event())
    assert (await ending).outputs[0].artifact.id == "image"
    assert [event.sequence for event in await watching] == list(range(1, 44))
    await first.close()
    await second.close()


@pytest.mark.parametrize(("is_told", "poll_seconds"), [(True, 3600), (False, 0.1)])
async def test_a_cancellation_reaches_a_worker_of_another_process(
    postgres_server: PostgresServer,
    is_told: bool,  # noqa: FBT001 (a column of the table)
    poll_seconds: float,
) -> None:
    """By a notice; when that is lost, when the process looks itself."""
    dsn = postgres_server.make_database()
    first, second = [await open_store(dsn, poll_seconds=poll_seconds) for _ in range(2)]
    made = (await first.submit(submission())).generation.id
    claim = await second.claim("sketch")
    if not is_told:
        await first._notices.close()
    await first.cancel("ada", made)
    await second.wait_cancelled(claim)
    ended = succeeded(claim)
    ended.state = State.STATE_CANCELLED
    await second.finish(claim, ended, Event())
    assert (await first.wait_ended("ada", made)).state == State.STATE_CANCELLED
    await first.close()
    await second.close()


async def test_an_end_that_nobody_tells_of_is_found(postgres_server: PostgresServer) -> None:
    """By those who wait for it, within a poll interval; and so is work in a queue."""
    dsn = postgres_server.make_database()
    first = await open_store(dsn)
    made = (await first.submit(submission())).generation.id
    ending = asyncio.create_task(first.wait_ended("ada", made))
    second = await open_store(dsn)
    claim = await second.claim("sketch")
    await second._notices.close()
    await second.finish(claim, succeeded(claim), Event())
    assert (await ending).state == State.STATE_SUCCEEDED
    claiming = asyncio.create_task(first.claim("sketch"))
    await asyncio.sleep(0)
    accepted = (await second.submit(submission())).generation.id
    assert (await claiming).generation.id == accepted
    await first.close()
    await second.close()


async def test_the_database_may_crash_and_come_back(postgres_server: PostgresServer) -> None:
    """Every connection breaks; calls wait for it, what was written is there, and claims stay valid."""
    store = await open_store(postgres_server.make_database())
    made = (await store.submit(submission())).generation.id
    claim = await store.claim("sketch")
    await store.log(claim, [Event(step=1)])
    await asyncio.to_thread(postgres_server.crash)
    assert (await store.get("ada", made)).state == State.STATE_RUNNING
    await store.submit(submission())
    await store.finish(claim, succeeded(claim), Event())
    assert (await store.get("ada", made)).state == State.STATE_SUCCEEDED
    assert (await store.claim("sketch")).generation.id != made
    await store.close()


async def test_nobody_is_taken_for_dead_because_the_database_was_down(
    postgres_server: PostgresServer,
) -> None:
    """Leases that end meanwhile could not be renewed."""
    dsn = postgres_server.make_database()
    first = await open_store(dsn)
    made = (await first.submit(submission())).generation.id
    claim = await first.claim("sketch")
    await asyncio.to_thread(postgres_server.crash)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE processes SET lease = clock_timestamp() - interval '1 second'")
    second = await open_store(dsn)
    await sweep(second, 0)
    assert (await second.get("ada", made)).state == State.STATE_RUNNING
    await first.finish(claim, succeeded(claim), Event())
    await first.close()
    await second.close()


async def test_a_database_of_a_newer_version_is_refused(postgres_server: PostgresServer) -> None:
    """And one with tables of something else; the message says what to do, and no password."""
    dsn = postgres_server.make_database()
    await (await open_store(dsn)).close()
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE schema_version SET version = %s", (VERSION + 1,))
    with pytest.raises(DatabaseUnusableError, match=f"version {VERSION + 1}.*start a newer server"):
        await open_store(dsn)
    other = postgres_server.make_database()
    with psycopg.connect(other) as connection:
        connection.execute("CREATE TABLE generations (year integer)")
    with pytest.raises(DatabaseUnusableError, match="of something else; name a database"):
        await open_store(other)


async def test_a_database_that_does_not_answer_is_named() -> None:
    """With its host and port, and without the password."""
    with pytest.raises(DatabaseUnusableError, match=r"store\.dsn.*port 1 ") as refused:
        await open_store("postgresql://atelier:secret-word@127.0.0.1:1/atelier")
    assert "secret-word" not in str(refused.value)


async def test_a_process_that_runs_takes_over_what_another_leaves(
    postgres_server: PostgresServer,
) -> None:
    """Its sweep finds it; its workers, which wait, get it, and those who watch here see every event."""
    dsn = postgres_server.make_database()
    first, second = await open_store(dsn), await open_store(dsn)
    made = (await first.submit(submission())).generation.id
    lost = await first.claim("sketch")
    waiting = asyncio.create_task(second.claim("sketch"))
    watching = asyncio.create_task(log_of(second, made))
    await sweep(second, 0)
    assert not waiting.done()
    await first.close()
    await sweep(second, 0)
    claim = await waiting
    assert (claim.generation.id, claim.attempt) == (made, 2)
    with pytest.raises(ClaimLostError):
        await second.finish(lost, succeeded(lost), Event())
    await second.finish(claim, succeeded(claim), Event())
    assert [event.sequence for event in await watching] == [1, 2, 3, 4, 5]
    await second.close()


async def test_one_process_speaks_for_all(postgres_server: PostgresServer) -> None:
    """The one that has been there longest; when it has gone, or its lease has ended, the next."""
    dsn = postgres_server.make_database()
    stores = [await open_store(dsn) for _ in range(3)]
    assert [await store.speaks_for_all() for store in stores] == [True, False, False]
    await stores[0].close()
    assert [await store.speaks_for_all() for store in stores[1:]] == [True, False]
    with psycopg.connect(dsn) as connection:  # as if the process were frozen for a minute
        connection.execute(
            "UPDATE processes SET lease = clock_timestamp() - interval '1 second' WHERE id ="
            " (SELECT min(id) FROM processes WHERE lease > clock_timestamp())"
        )
    assert [await store.speaks_for_all() for store in stores[1:]] == [False, True]
    for store in stores[1:]:
        await store.close()


async def test_suspects_run_alone_beside_what_runs_already(postgres_server: PostgresServer) -> None:
    """What another process was running when it died waits for what runs here, and then runs alone."""
    dsn = postgres_server.make_database()
    first, second = await open_store(dsn), await open_store(dsn)
    suspect = (await first.submit(submission(engine="other"))).generation.id
    await first.claim("other")
    await second.submit(submission())
    running = await second.claim("sketch")
    await first.close()
    await sweep(second, 0)
    waiting = asyncio.create_task(second.claim("other"))
    await asyncio.sleep(0.1)  # with too little of it, a fault would be missed, not invented
    assert not waiting.done()
    await second.finish(running, succeeded(running), Event())
    claim = await waiting
    assert claim.generation.id == suspect
    await second.finish(claim, succeeded(claim), Event())
    await second.close()


async def test_a_call_at_one_process_counts_at_another(postgres_server: PostgresServer) -> None:
    """Whoever accepts a generation wants it; so does whoever attends it, until it leaves."""
    dsn = postgres_server.make_database()
    first, second = [await open_store(dsn) for _ in range(2)]
    made = (await first.submit(submission())).generation.id
    abandon = {"any_call": False, "still_followed": False}
    assert await second.attend(made, started=True)
    assert not await first.cancel_abandoned("ada", made, **abandon)
    assert (await first.get("ada", made)).state == State.STATE_QUEUED
    assert await first.attend(made, started=False)
    assert await second.leave(made)
    assert not await second.cancel_abandoned("ada", made, any_call=True, still_followed=False)
    assert await first.leave(made)  # it has taken the generation over
    assert await second.cancel_abandoned("ada", made, **abandon)
    assert (await first.get("ada", made)).state == State.STATE_CANCELLED
    assert not await second.attend(made, started=True)
    for store in (first, second):
        await store.close()
