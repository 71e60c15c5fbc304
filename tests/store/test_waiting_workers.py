"""Who gets a generation: workers that wait, those that come later, and those that stop at the same moment."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from atelier_server.errors import ConflictError, NotFoundError
from atelier_server.store.events import HeldQueues, WaitingWorkers
from atelier_server.store.protocol import Claim
from atelier_server.store.sqlite.store import SqliteStore
from tests.store.conformance import submission


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    """An empty store."""
    return await SqliteStore.open(tmp_path / "atelier.db", retention_seconds=60, max_attempts=3)


async def _start_worker(store: SqliteStore) -> asyncio.Task[Claim]:
    """A worker that waits."""
    worker = asyncio.create_task(store.claim("sketch"))
    await asyncio.sleep(0)
    return worker


async def test_a_rejected_submission_lets_the_worker_wait_on(store: SqliteStore) -> None:
    """The next one that is accepted is for it."""
    first = submission(request_id="order", digest=b"1")
    await store.submit(first)
    await store.claim("sketch")
    worker = await _start_worker(store)
    with pytest.raises(ConflictError):
        await store.submit(submission(request_id="order", digest=b"2"))
    assert not (await store.submit(submission(request_id="order", digest=b"1"))).created
    assert not worker.done()
    accepted = submission()
    await store.submit(accepted)
    assert (await worker).generation.id == accepted.generation.id


async def test_a_generation_that_comes_during_a_rejection_wakes_the_worker(
    store: SqliteStore,
) -> None:
    """The worker that is kept for the rejected one gets the other, which was submitted before it began to wait."""
    await store.submit(submission(request_id="order", digest=b"1"))
    await store.claim("sketch")
    accepted = submission()
    accepting = asyncio.create_task(store.submit(accepted))
    worker = await _start_worker(store)
    with pytest.raises(ConflictError):
        await store.submit(submission(request_id="order", digest=b"2"))
    assert (await accepting).created
    assert (await asyncio.wait_for(worker, 60)).generation.id == accepted.generation.id


async def test_what_nobody_may_claim_wakes_a_worker_once() -> None:
    """After one try for a thousand generations it waits until something has changed, and tries once more."""
    workers = WaitingWorkers(lambda _: None, queued=1000)
    held = HeldQueues({"sketch": workers})
    assert await workers.wait() is None
    for _ in range(2):
        held.note_empty_claim("sketch", remains=True)
        worker = asyncio.create_task(workers.wait())
        await asyncio.sleep(0)
        assert not worker.done()
        held.notify()
        assert await worker is None
    held.note_empty_claim("sketch", remains=False)
    held.notify()
    worker = asyncio.create_task(workers.wait())
    await asyncio.sleep(0)
    assert not worker.done()
    worker.cancel()


async def test_the_oldest_is_claimed_first(store: SqliteStore) -> None:
    """Also if a worker waits while a younger one is submitted."""
    old, young = submission(), submission()
    worker = await _start_worker(store)
    submitting = asyncio.gather(store.submit(old), store.submit(young))
    assert (await worker).generation.id == old.generation.id
    await submitting
    assert (await store.claim("sketch")).generation.id == young.generation.id


async def test_workers_are_served_in_the_order_in_which_they_came(store: SqliteStore) -> None:
    """Each gets one generation."""
    workers = [await _start_worker(store) for _ in range(3)]
    accepted = [submission() for _ in workers]
    for each in accepted:
        await store.submit(each)
    claims = await asyncio.gather(*workers)
    assert [claim.generation.id for claim in claims] == [each.generation.id for each in accepted]


@pytest.mark.parametrize("turns", range(12))
async def test_a_worker_that_stops_at_the_same_moment_loses_nothing(
    store: SqliteStore, turns: int
) -> None:
    """Whenever it is cancelled, the generation is for the next worker, as if it had never been claimed."""
    worker = await _start_worker(store)
    accepted = submission()
    submitting = asyncio.create_task(store.submit(accepted))
    for _ in range(turns):
        await asyncio.sleep(0.0002)
    worker.cancel()
    await submitting
    await asyncio.wait([worker])
    if worker.cancelled():
        claim = await store.claim("sketch")
        assert claim.generation.id == accepted.generation.id
    await store.close()


async def test_a_worker_that_is_woken_and_stopped_passes_it_on(store: SqliteStore) -> None:
    """Whether it was given a claim or was to claim for itself."""
    await store.submit(submission())
    claim = await store.claim("sketch")
    unwanted: list[Claim] = []
    workers = WaitingWorkers(unwanted.append)
    stopped = asyncio.create_task(workers.wait())
    await asyncio.sleep(0)
    workers.notify()
    stopped.cancel()
    await asyncio.wait([stopped])
    assert await asyncio.wait_for(workers.wait(), 60) is None
    stopped = asyncio.create_task(workers.wait())
    await asyncio.sleep(0)
    workers.settle(workers.reserve(), claim, queued=True)
    stopped.cancel()
    await asyncio.wait([stopped])
    assert unwanted == [claim]


async def test_the_end_of_a_generation_is_its_owner_s(store: SqliteStore) -> None:
    """Another caller gets no answer, though the end is known in memory."""
    accepted = submission()
    await store.submit(accepted)
    with pytest.raises(NotFoundError):
        await store.wait_ended("somebody else", accepted.generation.id)
