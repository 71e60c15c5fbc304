"""What outlives the process in every store, and what ends. A store's test module subclasses RecoveryConformance too."""

from __future__ import annotations

import asyncio
import time

import pytest

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import (
    AttemptOutcome,
    CancelCause,
    State,
)
from atelier_server.errors import NotFoundError
from atelier_server.store.protocol import (
    ENDED,
    ClaimLostError,
    Event,
    Store,
)
from tests.store.conformance import Opener, log_of, submission, succeeded, sweep


class RecoveryConformance:
    """Restarts, expiry and deadlines; the fixtures are those of StoreConformance."""

    async def test_a_remote_handle_survives_the_death_of_the_process(self, opener: Opener) -> None:
        """The next attempt gets the handle; releasing the generation forgets it, unless it is to be kept."""
        store = await opener()
        await store.submit(submission())
        claim = await store.claim("sketch")
        assert claim.remote_handle == ""
        await store.save_remote_handle(claim, "job-7")
        await store.close()
        store = await opener()
        again = await store.claim("sketch")
        assert again.remote_handle == "job-7"
        with pytest.raises(ClaimLostError):
            await store.save_remote_handle(claim, "job-8")
        await store.release(again, keep_remote_handle=True)
        kept = await store.claim("sketch")
        assert kept.remote_handle == "job-7"
        await store.release(kept)
        assert (await store.claim("sketch")).remote_handle == ""

    async def test_a_cancelled_job_is_not_continued(self, opener: Opener) -> None:
        """Once it is recorded as cancelled; before, whoever asks again continues with it."""
        job = await lose_job(opener)
        store = await opener()
        assert not store.take_cancelled_jobs("another")
        (found,) = store.take_cancelled_jobs("sketch")
        assert found.remote_handle == job
        await store.submit(submission(request_id="r", keep_remote_handle=True))
        await store.record_job_cancelled(found)
        again = await store.claim("sketch")
        assert again.remote_handle == ""
        (attempt,) = again.generation.receipt.attempts
        assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED

    async def test_what_is_left_of_a_cancelled_job_is_continued(self, opener: Opener) -> None:
        """What its service could not stop."""
        await lose_job(opener)
        store = await opener()
        (found,) = store.take_cancelled_jobs("sketch")
        await store.record_job_cancelled(found, "the rest")
        await store.submit(submission(request_id="r", keep_remote_handle=True))
        assert (await store.claim("sketch")).remote_handle == "the rest"

    async def test_a_job_that_another_attempt_continues_stays(self, opener: Opener) -> None:
        """It is too late to record that it is cancelled."""
        job = await lose_job(opener)
        store = await opener()
        (found,) = store.take_cancelled_jobs("sketch")
        await store.submit(submission(request_id="r", keep_remote_handle=True))
        again = await store.claim("sketch")
        await store.record_job_cancelled(found)
        await store.release(again, keep_remote_handle=True)
        assert (await store.claim("sketch")).remote_handle == job

    async def test_cost_is_counted_over_restarts(self, opener: Opener) -> None:
        """The costs in the receipts add up, for each engine."""
        store = await opener()
        for _ in range(2):
            await store.submit(submission())
            claim = await store.claim("sketch")
            ended = succeeded(claim)
            ended.receipt.cost.amount = 0.25
            await store.finish(claim, ended, Event())
        await store.close()
        store = await opener()
        assert await store.spent_today("sketch") == 0.5
        assert await store.spent_today("other") == 0.0

    async def test_nothing_accepted_is_lost_when_the_process_dies(self, opener: Opener) -> None:
        """Waiting ones wait, running ones are requeued, ended ones stay; logs continue without a gap."""
        store = await opener()
        ended, running, waiting = [
            (await store.submit(submission())).generation.id for _ in range(3)
        ]
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim), Event())
        lost = await store.claim("sketch")
        await store.log(lost, [Event(step=1)])
        await store.close()

        store = await opener()
        assert (await store.get("ada", ended)).state == State.STATE_SUCCEEDED
        again = await store.claim("sketch")
        assert (again.generation.id, again.attempt) == (running, 2)
        assert (
            again.generation.receipt.attempts[0].outcome == AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
        )
        with pytest.raises(ClaimLostError):
            await store.finish(lost, succeeded(lost), Event())
        await store.finish(again, succeeded(again), Event())
        events = await log_of(store, running)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert (await store.claim("sketch")).generation.id == waiting

    async def test_a_generation_that_kills_its_server_fails_in_the_end(
        self, opener: Opener
    ) -> None:
        """After the last attempt it has FAILED with the reason POISONED."""
        store = await opener(max_attempts=2)
        generation_id = (await store.submit(submission())).generation.id
        for _ in range(2):
            await store.claim("sketch")
            await store.close()
            store = await opener(max_attempts=2)
        generation = await store.get("ada", generation_id)
        assert (generation.state, generation.failure.reason) == (State.STATE_FAILED, "POISONED")
        assert len(generation.receipt.attempts) == 2

    async def test_a_cancellation_survives_the_death_of_the_process(self, opener: Opener) -> None:
        """A running generation that was to be cancelled is not requeued."""
        store = await opener()
        generation_id = (await store.submit(submission())).generation.id
        await store.claim("sketch")
        await store.cancel("ada", generation_id)
        await store.close()
        store = await opener()
        assert (await store.get("ada", generation_id)).state == State.STATE_CANCELLED

    async def test_what_has_expired_is_deleted(self, opener: Opener) -> None:
        """Expired generations and artifacts go; inputs of others, and generations that wait, stay."""
        store = await opener(retention_seconds=10)
        upload = Artifact(id="upload", size=1)
        upload.expire_time.FromSeconds(int(time.time()) + 10)
        await store.add_artifact("ada", upload)
        first = (await store.submit(submission())).generation.id
        waiting = (await store.submit(submission(inputs=("upload",)))).generation.id
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim, "image"), Event())
        assert await sweep(store, time.time()) == []
        assert await sweep(store, time.time() + 20) == ["image"]
        with pytest.raises(NotFoundError):
            await store.get("ada", first)
        with pytest.raises(NotFoundError):
            await log_of(store, first)
        assert (await store.get("ada", waiting)).state == State.STATE_QUEUED
        await store.delete_artifacts(["upload"])
        assert (await store.get_artifact("ada", "upload")).size == 1

    async def test_what_waits_past_its_deadline_fails(self, store: Store) -> None:
        """The sweep fails it, its watchers get the last event, and no worker claims it."""
        now = time.time()
        late = (await store.submit(submission(deadline=now + 5))).generation.id
        other = (await store.submit(submission())).generation.id
        watching = asyncio.create_task(log_of(store, late))
        await sweep(store, now + 6)
        last = (await watching)[-1]
        assert last.state in ENDED
        assert last.generation.failure.reason == "DEADLINE_EXCEEDED"
        assert (await store.claim("sketch")).generation.id == other


async def lose_job(opener: Opener) -> str:
    """Have a process die that was to cancel a remote job, because its callers were lost; returns the handle."""
    store = await opener()
    accepted = await store.submit(submission(request_id="r"))
    await store.save_remote_handle(await store.claim("sketch"), "job-7")
    await store.cancel("ada", accepted.generation.id, CancelCause.CANCEL_CAUSE_CALLERS_LOST)
    await store.close()
    return "job-7"
