"""What every store must do about paused engines and cleared queues; part of the suite in `conformance`."""

from __future__ import annotations

import asyncio

import pytest

from atelier.v1.generation_pb2 import CancelCause, CancelOutcome, State
from atelier_server.store.protocol import ENDED, Store
from tests.store.conformance import Opener, log_of, submission


async def written_before(store: Store) -> None:
    """Wait until a claim that was begun before is written: writes have one order."""
    for _ in range(2):
        await asyncio.sleep(0)
        await store.test_write()


class PauseConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_nothing_is_claimed_of_a_paused_engine(self, store: Store) -> None:
        """By a worker that waits already or comes later; resumed, in order, and what other engines have at once."""
        waiting = asyncio.create_task(store.claim("sketch"))
        await asyncio.sleep(0)
        pause = await store.pause("sketch", "repairs")
        assert await store.list_pauses() == {"sketch": pause}
        made = [(await store.submit(submission())).generation.id for _ in range(3)]
        await store.submit(submission(engine="other"))
        await store.claim("other")
        late = asyncio.create_task(store.claim("sketch"))
        await written_before(store)
        assert (waiting.done(), late.done()) == (False, False)
        assert await store.resume("sketch")
        claimed = {(await claim).generation.id for claim in (waiting, late)}
        claimed.add((await store.claim("sketch")).generation.id)
        assert claimed == set(made)
        assert (await store.resume("sketch"), await store.list_pauses()) == (False, {})

    async def test_a_pause_outlasts_the_process(self, opener: Opener) -> None:
        """With its reason and its time; what waits is claimed once it ends."""
        store = await opener()
        pause = await store.pause("sketch", "repairs")
        made = (await store.submit(submission())).generation.id
        await store.close()
        store = await opener()
        assert await store.list_pauses() == {"sketch": pause}
        worker = asyncio.create_task(store.claim("sketch"))
        await written_before(store)
        assert not worker.done()
        await store.resume("sketch")
        assert (await worker).generation.id == made

    async def test_a_remote_job_goes_on_through_a_pause(self, store: Store) -> None:
        """It was begun before, and may be paid already."""
        made = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.save_remote_handle(claim, "job 7")
        await store.pause("sketch", "")
        await store.release(claim, keep_remote_handle=True)
        assert (await store.claim("sketch")).generation.id == made

    async def test_a_cleared_queue_ends_cancelled_with_the_reason(self, store: Store) -> None:
        """Of all callers; what runs, and other engines, are left alone; watchers are told."""
        running = (await store.submit(submission())).generation.id
        await store.claim("sketch")
        waiting = [(await store.submit(submission(engine="sketch"))).generation.id for _ in "ab"]
        other = (await store.submit(submission(engine="other"))).generation.id
        assert await store.clear_queue("sketch", "moving house") == 2
        for generation_id in waiting:
            ended = await store.wait_ended("ada", generation_id)
            assert ended.state == State.STATE_CANCELLED
            assert ended.cancel_cause == CancelCause.CANCEL_CAUSE_QUEUE_CLEARED
            assert ended.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
            assert ended.cancel_reason == "moving house"
            assert (await log_of(store, generation_id))[-1].generation == ended
        for generation_id in (running, other):
            assert (await store.get("ada", generation_id)).state not in ENDED
        assert (await store.queue_depth("sketch"), await store.clear_queue("sketch", "")) == (0, 0)

    async def test_what_begins_while_its_queue_is_cleared_goes_on(self, store: Store) -> None:
        """Each generation is either claimed or cancelled, whichever comes first."""
        for _ in range(250):
            await store.submit(submission(queue_limit=1000))
        claimed: list[str] = []

        async def work() -> None:
            while True:
                claimed.append((await store.claim("sketch")).generation.id)

        worker = asyncio.create_task(work())
        cleared = await store.clear_queue("sketch", "")
        worker.cancel()
        await asyncio.wait([worker])
        assert cleared + len(claimed) == 250
        assert claimed
        for generation_id in claimed:
            running = await store.get("ada", generation_id)
            assert running.state == State.STATE_RUNNING
            assert not running.cancel_cause

    async def test_the_same_request_finds_what_was_cleared(self, store: Store) -> None:
        """It stays cancelled: only what its callers have lost runs again."""
        named = submission()
        made = (await store.submit(named)).generation
        await store.clear_queue("sketch", "")
        again = await store.submit(named)
        assert (again.created, again.generation.id) == (False, made.id)
        assert again.generation.state == State.STATE_CANCELLED

    @pytest.mark.parametrize("count", [1, 205])
    async def test_a_long_queue_is_cleared_whole(self, store: Store, count: int) -> None:
        """In several transactions."""
        for _ in range(count):
            await store.submit(submission(queue_limit=1000))
        assert await store.clear_queue("sketch", "") == count
        assert await store.queue_depth("sketch") == 0
