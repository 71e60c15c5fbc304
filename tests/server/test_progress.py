"""StreamProgress: start or attach, from any sequence, each event exactly once, to the end."""

from __future__ import annotations

import asyncio
import io

import pytest
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import CancelOutcome, Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import Stub, events_of, image_request, on_acceptance, slow_request


async def accepted(stub: Stub, request: pb.GenerateRequest) -> str:
    """The id of a generation accepted without waiting."""
    return (await stub.Generate(on_acceptance(request))).generation.id


async def ended(stub: Stub, generation_id: str) -> Generation:
    """The generation after its end."""
    log = await events_of(stub, pb.StreamProgressRequest(generation_id=generation_id))
    return log[-1].generation


async def test_the_remaining_time_is_estimated_once_a_step_is_done(stub: Stub) -> None:
    """Unset before the first step, set after it, and zero at the last."""
    request = pb.StreamProgressRequest(generate=slow_request(0.2, steps=4))
    log = await events_of(stub, request)
    told = [event.HasField("estimated_remaining") for event in log if event.step]
    assert all(told[:-1])
    assert not any(event.HasField("estimated_remaining") for event in log if not event.step)
    assert not log[-1].HasField("estimated_remaining")
    seconds = [event.estimated_remaining.ToMicroseconds() for event in log if event.step == 4]
    assert set(seconds) == {0}


async def test_a_stream_starts_a_task_and_follows_it(stub: Stub) -> None:
    """Queued, then each step, and last the finished generation."""
    request = pb.StreamProgressRequest(generate=image_request(task={"steps": 3}))
    log = await events_of(stub, request)
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert log[0].state == State.STATE_QUEUED
    assert [event.step for event in log if event.state == State.STATE_RUNNING][-3:] == [1, 2, 3]
    assert [event.progress for event in log] == sorted(event.progress for event in log)
    assert all(not event.HasField("generation") for event in log[:-1])
    last = log[-1]
    assert (last.state, last.progress) == (State.STATE_SUCCEEDED, 1.0)
    assert last.generation.id == last.generation_id == log[0].generation_id
    assert last.generation.outputs[0].artifact.size > 0
    assert {event.engine for event in log} == {"sketch"}
    assert [event.attempt for event in (log[0], last)] == [0, 1]


@pytest.mark.parametrize("seconds", [0.0, 0.5])
async def test_the_log_of_what_nobody_watched_is_whole(stub: Stub, seconds: float) -> None:
    """Its events are written together, or with the end; whoever reads the log later finds each of them."""
    request = slow_request(seconds, steps=40)
    generation = (await stub.Generate(request)).generation
    log = await events_of(stub, pb.StreamProgressRequest(generation_id=generation.id))
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert [event.step for event in log if event.step][:40] == list(range(1, 41))
    assert log[-1].generation.state == State.STATE_SUCCEEDED


async def test_outputs_are_inlined_in_the_last_event(stub: Stub) -> None:
    """Requested in either field, also by a call that attaches."""
    asked = image_request(inline_outputs=True)
    first = await events_of(stub, pb.StreamProgressRequest(generate=asked))
    assert first[-1].generation.outputs[0].data
    attach = pb.StreamProgressRequest(generation_id=first[-1].generation_id)
    assert not (await events_of(stub, attach))[-1].generation.outputs[0].data
    attach.inline_outputs = True
    assert (await events_of(stub, attach))[-1].generation.outputs[0].data


@pytest.mark.parametrize("after", [0, 1, 4, 7])
async def test_a_stream_resumes_after_any_sequence(stub: Stub, after: int) -> None:
    """A call that attaches after the end reads the same log."""
    whole = await events_of(
        stub, pb.StreamProgressRequest(generate=image_request(task={"steps": 4}))
    )
    attach = pb.StreamProgressRequest(generation_id=whole[0].generation_id, after_sequence=after)
    assert await events_of(stub, attach) == whole[after:]


async def test_an_interrupted_stream_resumes_without_loss(stub: Stub) -> None:
    """Each event once, though the watcher disconnects after every few events."""
    generation_id = await accepted(stub, slow_request(0.5, steps=20))
    seen: list[int] = []
    state: State.ValueType = State.STATE_QUEUED
    while state != State.STATE_SUCCEEDED:
        attach = pb.StreamProgressRequest(
            generation_id=generation_id, after_sequence=seen[-1] if seen else 0
        )
        call = stub.StreamProgress(attach)
        async for event in call:
            seen.append(event.sequence)
            state = event.state
            if event.sequence % 3 == 0:
                break
        call.cancel()
    assert seen == list(range(1, len(seen) + 1))


async def test_twenty_watchers_receive_the_same_events(stub: Stub) -> None:
    """Whenever they attach."""
    generation_id = await accepted(stub, slow_request(0.5, steps=10))

    async def watch(delay: float) -> list[pb.StreamProgressResponse]:
        await asyncio.sleep(delay)
        return await events_of(stub, pb.StreamProgressRequest(generation_id=generation_id))

    logs = await asyncio.gather(*(watch(0.03 * number) for number in range(20)))
    assert all(log == logs[0] for log in logs)
    assert logs[0][-1].state == State.STATE_SUCCEEDED


async def test_a_stream_after_the_last_sequence_ends(stub: Stub) -> None:
    """Whether the generation ended before or ends meanwhile."""
    generation_id = await accepted(stub, slow_request(0.2, steps=2))
    beyond = pb.StreamProgressRequest(generation_id=generation_id, after_sequence=1000)
    assert await events_of(stub, beyond) == []
    assert await events_of(stub, beyond) == []


async def test_a_queued_generation_reports_its_queue_position(workshop_stub: Stub) -> None:
    """It counts down to zero, and is unset while the generation runs."""
    ids = [await accepted(workshop_stub, slow_request(0.2, engine="narrow")) for _ in range(3)]
    log = await events_of(workshop_stub, pb.StreamProgressRequest(generation_id=ids[-1]))
    places = [event.queue_position for event in log if event.HasField("queue_position")]
    assert places == sorted(places, reverse=True)
    assert (places[0], places[-1]) in {(1, 0), (2, 0)}
    assert all(
        event.HasField("queue_position") == (event.state == State.STATE_QUEUED) for event in log
    )


async def test_previews_have_the_requested_interval(stub: Stub) -> None:
    """Every second step, or never."""
    for interval, expected in ((2, [2, 4]), (0, [])):
        request = image_request(task={"steps": 4, "preview_interval": interval})
        log = await events_of(stub, pb.StreamProgressRequest(generate=request))
        shown = [event for event in log if event.HasField("preview")]
        assert [event.step for event in shown] == expected
        for event in shown:
            with Image.open(io.BytesIO(event.preview.data)) as image:
                assert image.size == (event.preview.size.width, event.preview.size.height)


async def test_disconnecting_a_stream_that_started_the_task_cancels_it(stub: Stub) -> None:
    """Within a step; the record says at which."""
    call = stub.StreamProgress(pb.StreamProgressRequest(generate=slow_request(60, steps=100)))
    async for event in call:
        if event.step == 2:
            break
    call.cancel()
    generation = await ended(stub, event.generation_id)
    assert generation.state == State.STATE_CANCELLED
    assert generation.cancel_outcome == CancelOutcome.CANCEL_OUTCOME_STOPPED
    assert 2 <= generation.stopped_at_step < 10


async def test_disconnecting_a_stream_that_attached_does_not_cancel(stub: Stub) -> None:
    """Only calls that submitted the task own it."""
    generation_id = await accepted(stub, slow_request(0.5, steps=10))
    call = stub.StreamProgress(pb.StreamProgressRequest(generation_id=generation_id))
    async for event in call:
        if event.step == 2:
            break
    call.cancel()
    assert (await ended(stub, generation_id)).state == State.STATE_SUCCEEDED


async def test_disconnecting_does_not_cancel_what_responds_on_acceptance(stub: Stub) -> None:
    """The response mode applies to streams too."""
    call = stub.StreamProgress(
        pb.StreamProgressRequest(generate=on_acceptance(slow_request(0.5, steps=10)))
    )
    async for event in call:
        if event.step == 2:
            break
    call.cancel()
    assert (await ended(stub, event.generation_id)).state == State.STATE_SUCCEEDED


async def test_the_last_caller_to_disconnect_cancels(stub: Stub) -> None:
    """Two calls with one request id own the generation together."""
    request = pb.StreamProgressRequest(generate=slow_request(1, steps=20, request_id="shared-1"))
    leaving, staying = stub.StreamProgress(request), stub.StreamProgress(request)
    async for event in leaving:
        assert event.sequence == 1
        break
    state: State.ValueType = State.STATE_QUEUED
    async for event in staying:
        state = event.state
        leaving.cancel()
    assert state == State.STATE_SUCCEEDED


async def test_a_silent_generation_repeats_its_last_event(start_server: StartServer) -> None:
    """Waiting or running, also for those who attach later; the log has no repetition."""
    engines = {"sketch": {"type": "sketch", "concurrency": 1}}
    quiet = start_server(engines=engines, limits={"max_silence_seconds": 0.1})
    async with aio.insecure_channel(quiet.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        ids = [await accepted(stub, image_request(options={"hang": True})) for _ in range(2)]
        for generation_id in ids:
            before = await until_repetitions(stub, generation_id, 0, count=2)
            told = [event for event in before if not event.repetition]
            assert [event.sequence for event in told] == list(range(1, len(told) + 1))
            for event in before[len(told) :]:
                event.repetition = False
                assert event == told[-1]
            (again,) = await until_repetitions(stub, generation_id, len(told), count=1)
            assert (again.sequence, again.state) == (len(told), told[-1].state)
        for generation_id in reversed(ids):
            await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation_id))
            log = await events_of(stub, pb.StreamProgressRequest(generation_id=generation_id))
            assert [event.sequence for event in log] == list(range(1, len(log) + 1))
            assert not any(event.repetition for event in log)


async def until_repetitions(
    stub: Stub, generation_id: str, after: int, *, count: int
) -> list[pb.StreamProgressResponse]:
    """The events up to that many repetitions with nothing between them."""
    call = stub.StreamProgress(
        pb.StreamProgressRequest(generation_id=generation_id, after_sequence=after)
    )
    told: list[pb.StreamProgressResponse] = []
    repetitions: list[pb.StreamProgressResponse] = []
    async for event in call:
        if event.repetition:
            repetitions.append(event)
        else:
            told.append(event)
            repetitions.clear()
        if len(repetitions) == count:
            break
    call.cancel()
    return told + repetitions
