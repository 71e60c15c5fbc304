"""Cancellation and deadlines: the work stops, and the response says what happened."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, CancelOutcome, Generation, State
from tests.server.calls import Stub, events_of, image_request, on_acceptance, refusal, slow_request


async def cancel(stub: Stub, generation_id: str) -> pb.CancelGenerationResponse:
    """Cancel the generation."""
    return await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation_id))


async def running(stub: Stub, request: pb.GenerateRequest, step: int = 1) -> str:
    """The id of a generation that has reached this step."""
    generation_id = (await stub.Generate(on_acceptance(request))).generation.id
    call = stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id))
    async for event in call:
        if event.step >= step:
            break
    call.cancel()
    return generation_id


async def log_of(stub: Stub, generation_id: str) -> list[pb.StreamProgressResponse]:
    """All events of the generation."""
    return await events_of(stub, pb.StreamProgressRequest(generation_id=generation_id))


async def test_a_running_generation_stops_within_a_step(stub: Stub) -> None:
    """The response says after which; log and record agree."""
    generation_id = await running(stub, slow_request(10, steps=100), step=3)
    answer = await cancel(stub, generation_id)
    assert answer.outcome == CancelOutcome.CANCEL_OUTCOME_STOPPED
    assert 3 <= answer.stopped_at_step <= 10
    assert answer.generation.state == State.STATE_CANCELLED
    assert answer.generation.stopped_at_step == answer.stopped_at_step
    assert not answer.generation.outputs
    (attempt,) = answer.generation.receipt.attempts
    assert attempt.outcome == AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED
    log = await log_of(stub, generation_id)
    assert max(event.step for event in log) == answer.stopped_at_step
    assert log[-1].generation == answer.generation


async def test_a_hanging_engine_is_stopped(stub: Stub) -> None:
    """Also in the middle of a step."""
    request = image_request(options={"hang": True})
    generation_id = (await stub.Generate(on_acceptance(request))).generation.id
    async for event in stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id)):
        if event.stage == "draw":
            break
    answer = await cancel(stub, generation_id)
    assert (answer.outcome, answer.stopped_at_step) == (CancelOutcome.CANCEL_OUTCOME_STOPPED, 0)


async def test_a_generation_cancelled_in_the_queue_never_starts(workshop_stub: Stub) -> None:
    """The response says so, and no engine executed it."""
    ahead = await running(workshop_stub, slow_request(engine="narrow"))
    waiting = (
        await workshop_stub.Generate(on_acceptance(slow_request(engine="narrow")))
    ).generation
    answer = await cancel(workshop_stub, waiting.id)
    assert answer.outcome == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
    assert answer.generation.cancel_outcome == answer.outcome
    assert answer.stopped_at_step == 0
    await cancel(workshop_stub, ahead)
    await workshop_stub.Generate(image_request(engine="narrow"))  # what comes after it is done
    log = await log_of(workshop_stub, waiting.id)
    assert [event.state for event in log] == [State.STATE_QUEUED, State.STATE_CANCELLED]
    assert not log[-1].generation.HasField("start_time")
    assert not log[-1].generation.receipt.attempts


async def test_it_is_too_late_to_cancel_after_the_end(stub: Stub) -> None:
    """Whether it succeeded or was cancelled before; the record does not change."""
    made = (await stub.Generate(image_request())).generation
    stopped = await running(stub, slow_request())
    before = (await cancel(stub, stopped)).generation
    for generation in (made, before):
        answer = await cancel(stub, generation.id)
        assert answer.outcome == CancelOutcome.CANCEL_OUTCOME_TOO_LATE
        assert answer.generation == generation


async def test_concurrent_cancellations_get_the_same_response(stub: Stub) -> None:
    """Both say that it was stopped."""
    generation_id = await running(stub, slow_request())
    first, second = await asyncio.gather(cancel(stub, generation_id), cancel(stub, generation_id))
    assert first.generation == second.generation
    assert CancelOutcome.CANCEL_OUTCOME_STOPPED in {first.outcome, second.outcome}


async def test_a_cancellation_warns_that_the_vendor_may_bill(workshop_stub: Stub) -> None:
    """Where the engine cannot stop the remote job."""
    generation_id = await running(workshop_stub, image_request("hang", engine="odder"))
    answer = await cancel(workshop_stub, generation_id)
    assert answer.outcome == CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL


async def test_a_caller_that_disconnects_frees_the_engine(workshop_stub: Stub) -> None:
    """The next task runs on the engine, whose concurrency is one."""
    call = workshop_stub.Generate(slow_request(60, engine="narrow", request_id="gone-1"))
    listed = pb.ListGenerationsRequest(engine="narrow", page_size=1)
    generation = Generation()
    while generation.request_id != "gone-1":
        found = (await workshop_stub.ListGenerations(listed)).generations
        generation = found[0] if found else generation
    async for event in workshop_stub.StreamProgress(
        pb.StreamProgressRequest(generation_id=generation.id)
    ):
        if event.step:
            break
    call.cancel()
    made = (await workshop_stub.Generate(image_request(engine="narrow"))).generation
    assert made.state == State.STATE_SUCCEEDED
    left = (await log_of(workshop_stub, generation.id))[-1].generation
    assert left.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_STOPPED


async def test_the_waiting_call_ends_with_cancelled(stub: Stub) -> None:
    """The error carries the generation's id."""
    waiting = asyncio.ensure_future(refusal(stub.Generate(slow_request(request_id="told-1"))))
    generation_id = ""
    while not generation_id:
        listed = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=5))
        named = [found.id for found in listed.generations if found.request_id == "told-1"]
        generation_id = "".join(named)
    await cancel(stub, generation_id)
    refused = await waiting
    assert (refused.code, refused.reason) == (grpc.StatusCode.CANCELLED, "CANCELLED")
    assert refused.metadata["generation_id"] == generation_id


async def test_an_expired_call_deadline_cancels_the_generation(stub: Stub) -> None:
    """The generation ends with the call that submitted it."""
    # Tasks of its own kind only: from those of other tests the server learns what a deadline must be.
    request = slow_request(61.5, steps=615, request_id="deadline-1")
    with pytest.raises(aio.AioRpcError) as caught:
        await stub.Generate(request, timeout=3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    listed = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=5))
    (generation,) = [found for found in listed.generations if found.request_id == "deadline-1"]
    last = (await log_of(stub, generation.id))[-1]
    assert last.state == State.STATE_CANCELLED
    assert 1 <= last.generation.stopped_at_step < 100


async def test_a_timeout_fails_the_generation(stub: Stub) -> None:
    """Though the caller still waits; the failure is retryable."""
    refused = await refusal(stub.Generate(slow_request(60, timeout_seconds=0.5)))
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused.reason == "DEADLINE_EXCEEDED"
    assert "while running" in refused.message
    assert refused.retry_seconds is not None


async def test_a_timeout_includes_the_time_in_the_queue(workshop_stub: Stub) -> None:
    """A generation that still waits fails without having started."""
    ahead = (await workshop_stub.Generate(on_acceptance(image_request(engine="stuck")))).generation
    request = on_acceptance(image_request(engine="stuck", timeout_seconds=0.2))
    waiting = (await workshop_stub.Generate(request)).generation
    last = (await log_of(workshop_stub, waiting.id))[-1].generation
    assert (last.state, last.failure.reason) == (State.STATE_FAILED, "DEADLINE_EXCEEDED")
    assert not last.HasField("start_time")
    await cancel(workshop_stub, ahead.id)


async def test_an_unattainable_deadline_is_rejected_at_submission(workshop_stub: Stub) -> None:
    """Such tasks never took so little; nothing of the request is stored."""
    for _ in range(3):
        await workshop_stub.Generate(slow_request(0.5, engine="narrow"))
    request = slow_request(0.5, engine="narrow", timeout_seconds=0.01, request_id="hopeless-1")
    refused = await refusal(workshop_stub.Generate(request))
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused.reason == "DEADLINE_UNATTAINABLE"
    assert "allow more time" in refused.message
    listed = await workshop_stub.ListGenerations(pb.ListGenerationsRequest(engine="narrow"))
    assert "hopeless-1" not in {found.request_id for found in listed.generations}
