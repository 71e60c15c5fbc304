"""What every store must do when a request comes again under its id; part of the suite in `conformance`."""

from __future__ import annotations

import time

import pytest

from atelier.v1.generation_pb2 import CancelCause, State
from atelier.v1.generation_service_pb2 import GenerateRequest, ResponseMode
from atelier_server.errors import QueueFullError
from atelier_server.ids import make_request_id
from atelier_server.store.protocol import CancelResult, Event, Store
from tests.store.conformance import Opener, log_of, submission, succeeded

CALLERS_LOST = CancelCause.CANCEL_CAUSE_CALLERS_LOST
REQUESTED = CancelCause.CANCEL_CAUSE_REQUESTED


async def lose_running(store: Store, handle: str = "") -> str:
    """The id of a generation of the request `r` that ran, and was cancelled because its callers were lost."""
    generation_id = (await store.submit(submission(request_id="r"))).generation.id
    claim = await store.claim("sketch")
    if handle:
        await store.save_remote_handle(claim, handle)
    await store.cancel("ada", generation_id, CALLERS_LOST)
    ended = succeeded(claim)
    ended.state = State.STATE_CANCELLED
    ended.receipt.attempts.add(number=1, engine="sketch")
    await store.finish(claim, ended, Event(step=3))
    return generation_id


class RequestIdConformance:
    """Part of the suite of the protocol; needs the fixtures of StoreConformance."""

    async def test_what_was_cancelled_for_lost_callers_is_accepted_again(
        self, opener: Opener
    ) -> None:
        """Also after a restart: one log without a gap, the attempts are kept, and the task is that decided now."""
        store = await opener()
        generation_id = await lose_running(store, handle="job-7")
        assert (await store.get("ada", generation_id)).cancel_cause == CALLERS_LOST
        await store.close()
        store = await opener()
        result = await store.submit(submission(request_id="r", engine="other", task=b"anew"))
        assert (result.generation.id, result.created) == (generation_id, True)
        claim = await store.claim("other")
        assert (claim.generation.id, claim.attempt, claim.task) == (generation_id, 2, b"anew")
        assert claim.remote_handle == ""
        assert [attempt.number for attempt in claim.generation.receipt.attempts] == [1]
        ended = await store.finish(claim, succeeded(claim), Event())
        assert ended.cancel_cause == CancelCause.CANCEL_CAUSE_UNSPECIFIED
        log = await log_of(store, generation_id)
        assert [event.sequence for event in log] == list(range(1, 7))
        assert [event.state for event in log[2:4]] == [State.STATE_QUEUED] * 2
        assert [event.attempt for event in log[2:4]] == [0, 0]
        assert [event.HasField("generation") for event in log] == [False] * 5 + [True]
        assert not (await store.submit(submission(request_id="r"))).created
        assert (await store.get("ada", generation_id)).state == State.STATE_SUCCEEDED

    async def test_what_runs_again_can_be_cancelled_again(self, store: Store) -> None:
        """The first cancellation does not reach the second attempt."""
        generation_id = await lose_running(store)
        await store.submit(submission(request_id="r"))
        claim = await store.claim("sketch")
        await store.release(claim)
        assert (await store.get("ada", generation_id)).state == State.STATE_QUEUED
        assert await store.cancel("ada", generation_id) is CancelResult.NEVER_STARTED
        assert (await store.get("ada", generation_id)).cancel_cause == REQUESTED

    async def test_a_remote_job_that_runs_on_is_kept_if_the_submission_says_so(
        self, store: Store
    ) -> None:
        """The second attempt continues with it."""
        await lose_running(store, handle="job-7")
        await store.submit(submission(request_id="r", keep_remote_handle=True))
        assert (await store.claim("sketch")).remote_handle == "job-7"

    async def test_a_full_queue_refuses_what_would_run_again(self, store: Store) -> None:
        """It stays as it was, and can be sent again."""
        generation_id = await lose_running(store)
        await store.submit(submission())
        with pytest.raises(QueueFullError):
            await store.submit(submission(request_id="r", queue_limit=1))
        assert (await store.get("ada", generation_id)).state == State.STATE_CANCELLED
        assert len(await log_of(store, generation_id)) == 3
        again = await store.submit(submission(request_id="r", queue_limit=2))
        assert again.generation.state == State.STATE_QUEUED

    @pytest.mark.parametrize("order", [(CALLERS_LOST, REQUESTED), (REQUESTED, CALLERS_LOST)])
    async def test_a_cancellation_on_purpose_outweighs_lost_callers(
        self, store: Store, order: tuple[CancelCause.ValueType, ...]
    ) -> None:
        """Whichever comes first, while it runs; and it is not accepted again."""
        generation_id = (await store.submit(submission(request_id="r"))).generation.id
        claim = await store.claim("sketch")
        for cause in order:
            await store.cancel("ada", generation_id, cause)
        await store.release(claim)
        assert (await store.get("ada", generation_id)).cancel_cause == REQUESTED
        again = await store.submit(submission(request_id="r"))
        assert again.generation.state == State.STATE_CANCELLED

    async def test_a_cancellation_on_purpose_after_the_end_stays(self, store: Store) -> None:
        """Record and log say so; a second loss of callers changes nothing."""
        generation_id = await lose_running(store)
        assert await store.cancel("ada", generation_id) is CancelResult.TOO_LATE
        await store.cancel("ada", generation_id, CALLERS_LOST)
        assert (await log_of(store, generation_id))[-1].generation.cancel_cause == REQUESTED
        again = await store.submit(submission(request_id="r"))
        assert again.generation.cancel_cause == REQUESTED

    async def test_the_response_mode_is_that_of_the_first_request(self, store: Store) -> None:
        """Until the generation runs again."""
        mode = ResponseMode.RESPONSE_MODE_ON_ACCEPTANCE
        detached = GenerateRequest(response_mode=mode)
        first = await store.submit(submission(request_id="r", request=detached))
        assert not first.ends_with_callers
        again = await store.submit(submission(request_id="r"))
        assert not again.ends_with_callers
        found = await store.find_by_request_id("ada", "r", b"1")
        assert found is not None
        assert not found.ends_with_callers
        await store.cancel("ada", first.generation.id, CALLERS_LOST)
        assert (await store.submit(submission(request_id="r"))).ends_with_callers

    async def test_what_a_request_without_id_has_made_is_found(self, store: Store) -> None:
        """The newest first; not what other requests and callers made, what had an id, or what ended long ago."""
        made = []
        for _ in range(3):
            sent = submission(digest=b"d" * 32)
            sent.generation.request_id = make_request_id(sent.generation.id, sent.digest)
            made.append((await store.submit(sent)).generation.id)
        for other in (submission(digest=b"e" * 32), submission(caller="bob", digest=b"d" * 32)):
            other.generation.request_id = make_request_id(other.generation.id, other.digest)
            await store.submit(other)
        await store.submit(submission(request_id="r", digest=b"d" * 32))
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim), Event())
        now = time.time()
        for ended_after, expected in ((now - 60, made[::-1]), (now + 60, made[:0:-1])):
            found = await store.find_unnamed("ada", b"d" * 32, ended_after)
            assert [result.generation.id for result in found] == expected
