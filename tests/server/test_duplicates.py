"""The same request many times at once, and requests that are refused after their attachments were stored."""

from __future__ import annotations

import asyncio
import io

import numpy as np
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import StartServer
from tests.server.calls import (
    Stub,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
    stored_blobs,
)


def with_attachment(request: pb.GenerateRequest) -> pb.GenerateRequest:
    """The request with an image to start from, accepted without waiting for its end."""
    picture = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture, "PNG")
    request.image.init_image.CopyFrom(MediaSource(attachment="a"))
    request.attachments["a"] = picture.getvalue()
    return on_acceptance(request)


async def test_duplicates_at_the_same_time_store_their_attachment_once(
    start_server: StartServer,
) -> None:
    """Fifty calls with one request id, on fifty connections, are one generation and one file."""
    server = start_server()
    request = with_attachment(slow_request(request_id="same"))
    channels = [aio.insecure_channel(server.address) for _ in range(50)]
    stubs: list[Stub] = [GenerationServiceStub(channel) for channel in channels]
    made = await asyncio.gather(*(stub.Generate(request) for stub in stubs))
    assert len({answer.generation.id for answer in made}) == 1
    assert len(stored_blobs(server)) == 1
    await asyncio.gather(*(channel.close() for channel in channels))


async def test_a_refused_request_leaves_no_attachment(start_server: StartServer) -> None:
    """A queue that is full when the request is written keeps nothing of it, however often it is tried."""
    server = start_server(
        engines={"narrow": {"type": "sketch", "concurrency": 1, "queue_limit": 1}}
    )
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        running = on_acceptance(slow_request(engine="narrow"))
        first = (await stub.Generate(running)).generation.id
        async for event in stub.StreamProgress(pb.StreamProgressRequest(generation_id=first)):
            if event.step:
                break
        await stub.Generate(running)
        request = with_attachment(image_request(engine="narrow"))
        for _ in range(3):
            assert (await refusal(stub.Generate(request))).reason == "QUEUE_FULL"
        assert stored_blobs(server) == set()
