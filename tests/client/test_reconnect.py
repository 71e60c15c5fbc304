"""Broken streams continue where they broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import grpc
import pytest

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import Progress, errors
from tests.client.conftest import ClientCaller, MakeCaller
from tests.client.fake_server import IMAGE_FILE, FakeServer, info, serve, status

Served = tuple[FakeServer, str]


async def collect(
    caller: ClientCaller, method: str, *arguments: str, **keywords: object
) -> list[Progress]:
    """Every event of a stream that ends well."""
    stream = caller.events(method, *arguments, **keywords)
    async with aclosing(stream):
        return [event async for event in stream]


async def rest_of(stream: AsyncGenerator[Progress]) -> list[int]:
    """The numbers of the events that are still to come."""
    return [event.sequence async for event in stream]


@pytest.mark.parametrize("breaks", [[2], [0, 2], [1, 1, 1, 1], [0, 0, 4]])
async def test_each_event_comes_once_over_a_breaking_connection(
    breaks: list[int], calling: MakeCaller, fake_server: Served
) -> None:
    """Wherever the stream breaks, no event is lost and none comes twice."""
    service, address = fake_server
    service.breaks = breaks
    async with calling(address) as caller:
        events = await collect(caller, "follow", "g1")
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]


async def test_a_stream_continues_after_the_last_event(
    calling: MakeCaller, fake_server: Served
) -> None:
    """Only the missing events are requested."""
    service, address = fake_server
    service.breaks = [2, 1]
    async with calling(address) as caller:
        await collect(caller, "follow", "g1", after_sequence=1)
    asked = [
        ask.after_sequence for ask in service.requests if isinstance(ask, pb.StreamProgressRequest)
    ]
    assert asked == [1, 3, 4]


async def test_events_that_are_sent_again_are_dropped(
    calling: MakeCaller, fake_server: Served
) -> None:
    """Repeated events are dropped."""
    service, address = fake_server
    service.breaks = [3]
    service.repeat_events = True
    async with calling(address) as caller:
        events = await collect(caller, "follow", "g1")
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]


async def test_a_stream_survives_a_restart_of_the_server(calling: MakeCaller) -> None:
    """The server stops in the middle, and another starts at the same address."""
    second = FakeServer()
    async with AsyncExitStack() as stack:
        async with serve(FakeServer(breaks=[2])) as address:
            caller = await stack.enter_async_context(calling(address))
            stream = await stack.enter_async_context(aclosing(caller.events("follow", "g1")))
            seen = [(await anext(stream)).sequence for _ in range(2)]
        rest = asyncio.create_task(rest_of(stream))
        await asyncio.sleep(0.3)
        await stack.enter_async_context(serve(second, address))
        seen += await rest
    assert seen == [1, 2, 3, 4, 5]
    assert second.requests[0] == pb.StreamProgressRequest(generation_id="g1", after_sequence=2)


async def test_the_reconnect_timeout_ends_the_stream(
    calling: MakeCaller, fake_server: Served
) -> None:
    """The error says that the server is unreachable."""
    service, address = fake_server
    service.breaks = [2] + [0] * 50
    async with calling(address, reconnect_timeout_seconds=0.5) as caller:
        stream = caller.events("follow", "g1")
        async with aclosing(stream):
            with pytest.raises(errors.ServerUnreachableError):
                await rest_of(stream)


async def test_other_errors_are_not_tried_again(calling: MakeCaller, fake_server: Served) -> None:
    """Only UNAVAILABLE is retried."""
    service, address = fake_server
    service.refusals = [status(grpc.StatusCode.NOT_FOUND, "no such generation", info("UNKNOWN"))]
    async with calling(address) as caller:
        stream = caller.events("follow", "g1")
        async with aclosing(stream):
            with pytest.raises(errors.NotFoundError):
                await anext(stream)
    assert len(service.requests) == 1


async def test_streaming_brings_the_bytes_with_the_last_event(
    calling: MakeCaller, fake_server: Served
) -> None:
    """Also when neither stream nor download arrives in one piece."""
    service, address = fake_server
    service.breaks = [2, 3, 2]
    async with calling(address) as caller:
        events = await collect(caller, "stream", "a lamp")
    generation = events[-1].generation
    assert generation is not None
    assert generation.images[0].data == IMAGE_FILE


async def test_leaving_a_stream_early_cancels(calling: MakeCaller, fake_server: Served) -> None:
    """Closing `stream` before the end cancels its generation."""
    service, address = fake_server
    async with calling(address) as caller:
        stream = caller.events("stream", "a lamp")
        async with aclosing(stream):
            await anext(stream)
    assert service.requests[-1] == pb.CancelGenerationRequest(generation_id="g1")


async def test_a_stream_that_ends_does_not_cancel(calling: MakeCaller, fake_server: Served) -> None:
    """Nothing is cancelled after the last event, nor after a failure."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(
        id="g1",
        state=generation_pb2.STATE_FAILED,
        failure=generation_pb2.Failure(reason="ENGINE_FAILED", code=13, message="it broke"),
    )
    async with calling(address) as caller:
        stream = caller.events("stream", "a lamp")
        async with aclosing(stream):
            seen = [(await anext(stream)).sequence for _ in range(5)]
            with pytest.raises(errors.GenerationFailedError, match="it broke"):
                await anext(stream)
    assert seen == [1, 2, 3, 4, 5]
    assert not any(isinstance(ask, pb.CancelGenerationRequest) for ask in service.requests)


async def test_leaving_what_was_attached_to_cancels_nothing(
    calling: MakeCaller, fake_server: Served
) -> None:
    """Closing `follow` does not cancel."""
    service, address = fake_server
    async with calling(address) as caller:
        stream = caller.events("follow", "g1")
        async with aclosing(stream):
            await anext(stream)
    assert [type(ask) for ask in service.requests] == [pb.StreamProgressRequest]
