"""The same request again, under the same id: after its caller was lost, after a cancellation, while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, CancelCause, CancelOutcome, Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import (
    Stub,
    events_of,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
)
from tests.server.test_abandonment import cancel, hang, lose, narrow_server, reach

CALLERS_LOST = CancelCause.CANCEL_CAUSE_CALLERS_LOST
REQUESTED = CancelCause.CANCEL_CAUSE_REQUESTED


@asynccontextmanager
async def fresh_server(start: StartServer) -> AsyncGenerator[Stub]:
    """A server without measurements of earlier tasks."""
    async with aio.insecure_channel(start().address) as channel:
        yield GenerationServiceStub(channel)


async def hang_up(stub: Stub, request: pb.GenerateRequest) -> str:
    """The id of a generation that runs, and whose only call has just been lost."""
    call = stub.StreamProgress(pb.StreamProgressRequest(generate=request))
    event = await anext(aiter(call))
    while not event.step:
        event = await anext(aiter(call))
    call.cancel()
    return event.generation_id


async def generate(stub: Stub, request: pb.GenerateRequest) -> Generation:
    """The ended generation."""
    return (await stub.Generate(request)).generation


def outcomes(generation: Generation) -> list[AttemptOutcome.ValueType]:
    """How each attempt ended."""
    return [attempt.outcome for attempt in generation.receipt.attempts]


async def test_a_request_whose_caller_was_lost_runs_again_under_its_id(
    start_server: StartServer,
) -> None:
    """As a second attempt of the same generation, with the same seed; its log goes on without a gap."""
    async with fresh_server(start_server) as stub:
        request = slow_request(1.0, request_id="dropped")
        lost = await reach(stub, await hang_up(stub, request), State.STATE_CANCELLED)
        assert lost.cancel_cause == CALLERS_LOST
        seen = await events_of(stub, pb.StreamProgressRequest(generation_id=lost.id))

        made = await generate(stub, request)
        assert (made.id, made.state) == (lost.id, State.STATE_SUCCEEDED)
        assert (made.create_time, made.receipt.recipe.seeds) == (
            lost.create_time,
            lost.receipt.recipe.seeds,
        )
        assert (made.cancel_outcome, made.cancel_cause, made.stopped_at_step) == (0, 0, 0)
        assert [attempt.number for attempt in made.receipt.attempts] == [1, 2]
        assert outcomes(made) == [
            AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED,
            AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED,
        ]
        log = await events_of(stub, pb.StreamProgressRequest(generation_id=lost.id))
        assert [event.sequence for event in log] == list(range(1, len(log) + 1))
        assert [event.HasField("generation") for event in log] == [False] * (len(log) - 1) + [True]
        rest = pb.StreamProgressRequest(generation_id=lost.id, after_sequence=seen[-1].sequence)
        assert await events_of(stub, rest) == log[len(seen) :]
        assert await generate(stub, request) == made


async def test_a_retry_right_after_the_loss_is_never_answered_with_the_cancellation(
    start_server: StartServer,
) -> None:
    """Whether it comes before, while or after the generation is cancelled."""
    async with fresh_server(start_server) as stub:
        for round_number in range(8):
            request = slow_request(0.3, steps=10, request_id=f"retry-{round_number}")
            lost = await hang_up(stub, request)
            await asyncio.sleep(round_number / 200)
            made = await generate(stub, request)
            assert (made.id, made.state) == (lost, State.STATE_SUCCEEDED)


async def test_a_retry_after_a_passed_deadline_runs(start_server: StartServer) -> None:
    """Wherever the deadline passed: on the way, while the request was accepted, or while the generation ran."""
    async with fresh_server(start_server) as stub:
        for milliseconds in (1, 3, 6, 10, 20, 700):
            request = slow_request(1.5, steps=10, request_id=f"late-{milliseconds}")
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.Generate(request, timeout=milliseconds / 1000)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert (await generate(stub, request)).state == State.STATE_SUCCEEDED


async def test_what_was_cancelled_while_it_waited_takes_its_place_again(
    start_server: StartServer,
) -> None:
    """It is ahead of what was accepted after it."""
    async with narrow_server(start_server, 0.0) as stub:
        ahead = await hang(stub)
        lost = await lose(stub, image_request(request_id="waiting"))
        ended = await reach(stub, lost, State.STATE_CANCELLED)
        assert (ended.cancel_outcome, ended.cancel_cause) == (
            CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED,
            CALLERS_LOST,
        )
        later = await generate(stub, on_acceptance(image_request()))
        again = await generate(stub, on_acceptance(image_request(request_id="waiting")))
        assert (again.id, again.state) == (lost, State.STATE_QUEUED)
        log = stub.StreamProgress(pb.StreamProgressRequest(generation_id=lost))
        events = [await anext(aiter(log)) for _ in range(3)]
        assert [event.state for event in events] == [State.STATE_QUEUED] * 3
        assert events[-1].queue_position == 0
        await cancel(stub, ahead)
        first = await reach(stub, lost, State.STATE_SUCCEEDED)
        second = await reach(stub, later.id, State.STATE_SUCCEEDED)
        assert first.start_time.ToNanoseconds() <= second.start_time.ToNanoseconds()


async def test_what_was_cancelled_on_purpose_stays_cancelled(start_server: StartServer) -> None:
    """Also when its callers had been lost before."""
    async with fresh_server(start_server) as stub:
        request = slow_request(request_id="unwanted")
        made = await generate(stub, on_acceptance(slow_request(request_id="unwanted")))
        await reach(stub, made.id, State.STATE_RUNNING)
        await cancel(stub, made.id)
        assert (await refusal(stub.Generate(request))).reason == "CANCELLED"

        lost = await hang_up(stub, slow_request(request_id="lost"))
        await reach(stub, lost, State.STATE_CANCELLED)
        await cancel(stub, lost)
        found = await refusal(stub.Generate(slow_request(request_id="lost")))
        assert (found.reason, found.metadata["generation_id"]) == ("CANCELLED", lost)
        log = await events_of(stub, pb.StreamProgressRequest(generation_id=lost))
        assert log[-1].generation.cancel_cause == REQUESTED


async def test_what_was_cancelled_so_that_it_may_run_again_runs_again(
    start_server: StartServer,
) -> None:
    """As for lost callers; afterwards it is finished."""
    async with fresh_server(start_server) as stub:
        request = slow_request(1.0, request_id="paused")
        made = await generate(stub, on_acceptance(slow_request(1.0, request_id="paused")))
        await reach(stub, made.id, State.STATE_RUNNING)
        again = pb.CancelGenerationRequest(generation_id=made.id, may_run_again=True)
        stopped = (await stub.CancelGeneration(again)).generation
        assert (stopped.state, stopped.cancel_cause) == (State.STATE_CANCELLED, CALLERS_LOST)
        ended = await generate(stub, request)
        assert (ended.id, ended.state) == (made.id, State.STATE_SUCCEEDED)
        late = await stub.CancelGeneration(again)
        assert late.outcome == CancelOutcome.CANCEL_OUTCOME_TOO_LATE


async def test_how_it_was_accepted_decides_whether_it_ends_with_its_callers(
    start_server: StartServer,
) -> None:
    """A call that waits does not end what was accepted to go on; one that does not wait does not keep what was not."""
    async with fresh_server(start_server) as stub:
        alone = await generate(stub, on_acceptance(slow_request(2.0, request_id="alone")))
        assert await hang_up(stub, slow_request(2.0, request_id="alone")) == alone.id
        assert (await reach(stub, alone.id, State.STATE_SUCCEEDED)).receipt.attempts[0].number == 1

        call = stub.StreamProgress(
            pb.StreamProgressRequest(generate=slow_request(request_id="attended"))
        )
        event = await anext(aiter(call))
        while not event.step:
            event = await anext(aiter(call))
        same = await generate(stub, on_acceptance(slow_request(request_id="attended")))
        assert (same.id, same.state) == (event.generation_id, State.STATE_RUNNING)
        call.cancel()
        ended = await reach(stub, same.id, State.STATE_CANCELLED)
        assert ended.cancel_cause == CALLERS_LOST


async def test_a_failure_stays_under_its_id(start_server: StartServer) -> None:
    """A retryable one too: the task needs a new id then, as the contract says."""
    async with fresh_server(start_server) as stub:
        request = slow_request(request_id="slow", timeout_seconds=0.3)
        first = await refusal(stub.Generate(request))
        again = await refusal(stub.Generate(request))
        assert (first.reason, again.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert first.metadata["generation_id"] == again.metadata["generation_id"]
        assert first.pushback_ms == "-1"
