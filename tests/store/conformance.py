"""What every store must do. A store's test module subclasses StoreConformance and gives it an `opener`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import (
    AttemptOutcome,
    CancelOutcome,
    Generation,
    Output,
    State,
)
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import ImageTask
from atelier_server.errors import ConflictError, NotFoundError, QueueFullError, StorageError
from atelier_server.ids import new_id
from atelier_server.store.protocol import (
    CancelResult,
    Claim,
    ClaimLostError,
    Event,
    Metadata,
    Query,
    Store,
    Submission,
)

Opener = Callable[..., Awaitable[Store]]
"""Opens a store over the same data each time; keywords: max_attempts, retention_seconds, running_limits."""


def submission(
    *,
    caller: str = "ada",
    request_id: str = "",
    engine: str = "sketch",
    digest: bytes = b"1",
    **more: object,
) -> Submission:
    """A small generation to accept."""
    task = ImageTask(prompt="a lighthouse")
    generation = Generation(id=new_id(), state=State.STATE_QUEUED, engine=engine, image=task)
    generation.request_id = request_id or generation.id
    generation.create_time.GetCurrentTime()
    settings: dict[str, object] = {
        "task": b"",
        "queue_limit": 100,
        "deadline": None,
        "request": GenerateRequest(engine=engine, image=task),
        **more,
    }
    return Submission(
        generation=generation,
        caller=caller,
        digest=digest,
        **settings,  # type: ignore[arg-type]  # fields by name
    )


def succeeded(claim: Claim, *artifact_ids: str) -> Generation:
    """The claimed generation in the state SUCCEEDED, with those artifacts as outputs."""
    generation = Generation()
    generation.CopyFrom(claim.generation)
    generation.state = State.STATE_SUCCEEDED
    for artifact_id in artifact_ids:
        generation.outputs.append(
            Output(artifact=Artifact(id=artifact_id, media_type="image/png", size=3))
        )
    return generation


async def log_of(store: Store, generation_id: str, after: int = 0) -> list[Event]:
    """Every event of the log, to its end."""
    async with aclosing(store.watch(generation_id, after)) as events:
        return [event async for event in events]


async def sweep(store: Store, now: float) -> list[str]:
    """Sweep to the end; the ids of the deleted artifacts."""
    async with aclosing(store.sweep(now)) as deleted:
        return [artifact_id async for ids in deleted for artifact_id in ids]


class StoreConformance:
    """The suite of the protocol: subclass it, and override the fixture `opener`."""

    @pytest.fixture
    def opener(self) -> Opener:
        """Overridden by each store."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, opener: Opener) -> Store:
        """A fresh store."""
        return await opener()

    async def test_an_accepted_generation_can_be_read_and_claimed(self, store: Store) -> None:
        """What is submitted is returned: first waiting, then with the claim, which has request, task and metadata."""
        metadata = Metadata(tenant="studio", trace_context={"traceparent": "00-1-2-01"})
        accepted = await store.submit(submission(task=b"decided", metadata=metadata))
        assert accepted.created
        assert (await store.get("ada", accepted.generation.id)).state == State.STATE_QUEUED
        claim = await store.claim("sketch")
        assert claim.generation.id == accepted.generation.id
        assert claim.generation.state == State.STATE_RUNNING
        assert claim.request.image.prompt == "a lighthouse"
        assert (claim.attempt, claim.caller) == (1, "ada")
        assert (claim.task, claim.metadata) == (b"decided", metadata)

    async def test_the_oldest_waiting_generation_is_claimed_first(self, store: Store) -> None:
        """Queues are first in, first out, and engines have one each."""
        first, second = [(await store.submit(submission())).generation.id for _ in range(2)]
        other = (await store.submit(submission(engine="other"))).generation.id
        assert [
            (await store.claim(engine)).generation.id for engine in ("sketch", "other", "sketch")
        ] == [
            first,
            other,
            second,
        ]

    async def test_a_claim_waits_for_work_and_is_never_given_twice(self, store: Store) -> None:
        """Of two waiting workers one gets the first generation, the other the second."""
        claims = [asyncio.create_task(store.claim("sketch")) for _ in range(2)]
        await asyncio.sleep(0)
        ids = {(await store.submit(submission())).generation.id for _ in range(2)}
        assert {(await claim).generation.id for claim in claims} == ids

    async def test_a_cancelled_claim_loses_no_generation(self, store: Store) -> None:
        """However a cancelled claim races with a submission, the generation is claimed or waits."""
        for _ in range(20):
            waiting = asyncio.create_task(store.claim("sketch"))
            await asyncio.sleep(0)
            submitting = asyncio.create_task(store.submit(submission()))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            expected = (await submitting).generation.id
            claim = (
                await asyncio.wait_for(store.claim("sketch"), 10)
                if waiting.cancelled()
                else waiting.result()
            )
            assert claim.generation.id == expected
            await store.finish(claim, succeeded(claim), Event())

    async def test_the_same_request_is_the_same_generation(self, store: Store) -> None:
        """A repeated request id with the same digest finds the first generation, also after its end."""
        first = await store.submit(submission(request_id="r"))
        again = await store.submit(submission(request_id="r"))
        assert (again.created, again.generation.id) == (False, first.generation.id)
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim), Event())
        found = await store.find_by_request_id("ada", "r", b"1")
        assert found is not None
        assert found.generation.state == State.STATE_SUCCEEDED
        assert await store.find_by_request_id("ada", "unknown", b"1") is None

    async def test_a_request_id_names_one_request_per_caller(self, store: Store) -> None:
        """Another digest under the same id is refused; another caller's id is another id."""
        await store.submit(submission(request_id="r"))
        with pytest.raises(ConflictError, match="'r'"):
            await store.submit(submission(request_id="r", digest=b"2"))
        with pytest.raises(ConflictError):
            await store.find_by_request_id("ada", "r", b"2")
        assert (await store.submit(submission(request_id="r", caller="bob", digest=b"2"))).created

    async def test_a_full_queue_refuses_and_loses_nothing(self, store: Store) -> None:
        """The one over the limit is refused; those within it stay, and a repeated request still finds its own."""
        await store.submit(submission(request_id="a", queue_limit=2))
        await store.submit(submission(request_id="b", queue_limit=2))
        with pytest.raises(QueueFullError):
            await store.submit(submission(request_id="c", queue_limit=2))
        assert not (await store.submit(submission(request_id="a", queue_limit=2))).created
        assert await store.queue_depth("sketch") == 2

    async def test_cancelling_a_waiting_generation_ends_it_at_once(self, store: Store) -> None:
        """It never starts, and its log says so."""
        first, second = [(await store.submit(submission())).generation.id for _ in range(2)]
        assert await store.cancel("ada", first) is CancelResult.NEVER_STARTED
        assert (await store.claim("sketch")).generation.id == second
        last = (await log_of(store, first))[-1]
        assert last.state == State.STATE_CANCELLED
        assert last.generation.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED

    async def test_cancelling_a_running_generation_notifies_its_worker(self, store: Store) -> None:
        """The worker is notified and ends it; a second cancellation comes too late."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        assert await store.cancel("ada", generation_id) is CancelResult.REQUESTED
        await asyncio.wait_for(store.wait_cancelled(claim), 10)
        ended = succeeded(claim)
        ended.state = State.STATE_CANCELLED
        await store.finish(claim, ended, Event())
        assert await store.cancel("ada", generation_id) is CancelResult.TOO_LATE

    async def test_what_completes_a_generation_runs_before_its_end_is_written(
        self, store: Store
    ) -> None:
        """What it adds is part of the record; what it raises leaves the generation running, and the claim valid."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")

        def fail(_: Generation) -> None:
            raise StorageError("the disk is full")

        def complete(generation: Generation) -> None:
            generation.outputs[0].artifact.sha256 = "ab"

        with pytest.raises(StorageError):
            await store.finish(claim, succeeded(claim, "a-1-0"), Event(), before=fail)
        assert (await store.get("ada", generation_id)).state == State.STATE_RUNNING
        await store.finish(claim, succeeded(claim, "a-1-0"), Event(), before=complete)
        ended = await store.get("ada", generation_id)
        artifact = ended.outputs[0].artifact
        assert (ended.state, artifact.sha256) == (State.STATE_SUCCEEDED, "ab")
        assert (await store.get_artifact("ada", artifact.id)).sha256 == "ab"

    async def test_a_released_generation_is_claimed_again_first(self, store: Store) -> None:
        """It keeps its queue position, and its attempt is listed; the old claim is void."""
        first = (await store.submit(submission())).generation.id
        await store.submit(submission())
        claim = await store.claim("sketch")
        await store.release(claim)
        with pytest.raises(ClaimLostError):
            await store.log(claim, [Event(step=1)])
        again = await store.claim("sketch")
        assert (again.generation.id, again.attempt) == (first, 2)
        (attempt,) = again.generation.receipt.attempts
        assert (attempt.number, attempt.engine) == (1, "sketch")
        assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_RELEASED
        await store.release(claim)  # a void claim is left alone
        assert (await store.get("ada", first)).state == State.STATE_RUNNING

    async def test_a_released_generation_reports_how_many_are_ahead(self, store: Store) -> None:
        """Its event counts those that wait for the same engine and came before it, and no others."""
        first = (await store.submit(submission())).generation.id
        second = (await store.submit(submission())).generation.id
        await store.submit(submission(engine="other"))
        claims = [await store.claim("sketch") for _ in range(2)]
        await store.submit(submission())
        for claim in claims:
            await store.release(claim)
        positions = []
        for generation_id in (first, second):
            async with aclosing(store.watch(generation_id, 2)) as events:
                positions.append((await anext(events)).queue_position)
        assert positions == [0, 1]

    async def test_a_cancelled_generation_that_is_released_ends(self, store: Store) -> None:
        """A worker that releases it before it was notified does not requeue it."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.cancel("ada", generation_id)
        await store.release(claim)
        assert (await store.get("ada", generation_id)).state == State.STATE_CANCELLED

    async def test_a_generation_can_be_requeued_on_another_engine(self, store: Store) -> None:
        """It waits in the other engine's queue with the record that the first attempt wrote, and a task of its own."""
        await store.submit(submission(task=b"for sketch"))
        claim = await store.claim("sketch")
        claim.generation.engine = "other"
        claim.generation.receipt.attempts.add(number=1, engine="sketch")
        await store.requeue_on_engine(claim, claim.generation, b"for other")
        other = await store.claim("other")
        assert (other.attempt, other.generation.receipt.attempts[0].engine) == (2, "sketch")
        assert other.task == b"for other"
        await store.finish(other, succeeded(other), Event())

    async def test_a_task_that_is_decided_late_is_kept(self, store: Store) -> None:
        """A generation without a task gets one, and a receipt, under its first claim; a void claim changes nothing."""
        generation_id = (await store.submit(submission(task=b""))).generation.id
        claim = await store.claim("sketch")
        assert claim.task == b""
        claim.generation.receipt.parameters.add(name="steps")
        await store.save_task(claim, claim.generation, b"decided")
        await store.release(claim)
        with pytest.raises(ClaimLostError):
            await store.save_task(claim, claim.generation, b"too late")
        again = await store.claim("sketch")
        assert again.task == b"decided"
        generation = await store.get("ada", generation_id)
        assert [parameter.name for parameter in generation.receipt.parameters] == ["steps"]

    async def test_only_the_first_end_counts(self, store: Store) -> None:
        """A second finish, and any write after the end, is refused: the claim is void."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim, "first"), Event())
        with pytest.raises(ClaimLostError):
            await store.finish(claim, succeeded(claim, "second"), Event())
        with pytest.raises(ClaimLostError):
            await store.log(claim, [Event(step=9)])
        assert [
            output.artifact.id for output in (await store.get("ada", generation_id)).outputs
        ] == ["first"]
        assert await store.find_unknown_artifacts(["first", "second"]) == ["second"]
        assert not await store.is_empty()
        assert await store.find_known_generations([generation_id, "none"]) == [generation_id]
        assert await store.list_queued_engines() == []
        await store.submit(submission())
        assert await store.list_queued_engines() == ["sketch"]

    async def test_callers_see_only_their_own(self, store: Store) -> None:
        """Another caller's generation and artifact are not found, like those that do not exist."""
        generation_id = (await store.submit(submission())).generation.id
        claim = await store.claim("sketch")
        await store.finish(claim, succeeded(claim, "image"), Event())
        assert (await store.get_artifact("ada", "image")).size == 3
        for caller, name in (("bob", generation_id), ("ada", "nothing")):
            with pytest.raises(NotFoundError):
                await store.get(caller, name)
            with pytest.raises(NotFoundError):
                await store.cancel(caller, name)
        with pytest.raises(NotFoundError):
            await store.get_artifact("bob", "image")
        with pytest.raises(NotFoundError):
            await log_of(store, "nothing")
        assert (await store.list(Query(caller="bob", limit=10))).generations == []

    async def test_lists_are_newest_first_and_filtered(self, store: Store) -> None:
        """Pages continue before an id; engine and states narrow the list."""
        ids = [
            (await store.submit(submission(engine=engine))).generation.id
            for engine in ("a", "b", "a")
        ]
        ids = sorted(ids, reverse=True)
        claim = await store.claim("b")

        async def find(**conditions: Any) -> tuple[list[str], bool]:  # noqa: ANN401 (fields by name)
            page = await store.list(Query(caller="ada", **conditions))
            return [generation.id for generation in page.generations], page.complete

        assert await find(limit=2) == (ids[:2], False)
        assert await find(limit=2, before=ids[1]) == (ids[2:], True)
        assert await find(limit=3) == (ids, True)
        assert await find(limit=9, states=[State.STATE_RUNNING]) == ([claim.generation.id], True)
        assert len((await find(limit=9, engine="a"))[0]) == 2
        both = await find(limit=9, states=[State.STATE_RUNNING, State.STATE_QUEUED])
        assert both == (ids, True)
        assert await find(limit=9, max_bytes=1) == (ids[:1], False)
