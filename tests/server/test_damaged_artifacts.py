"""Artifacts whose bytes were lost or damaged where they are stored: told as what they are, and never used."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import grpc
import pytest
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, image_request, refusal
from tests.server.test_artifacts import CHUNK, png, upload


async def test_lost_bytes_are_said_to_be_lost(stub: Stub, server: RunningServer) -> None:
    """DATA_LOSS rather than INTERNAL: this server's disk has a problem that its operator must see."""
    stored = await upload(stub, png())
    (server.data / "artifacts" / stored.id).unlink()
    request = pb.DownloadArtifactRequest(artifact_id=stored.id)
    call = stub.DownloadArtifact(request)
    assert await call.read() == pb.DownloadArtifactResponse(artifact=stored)
    refused = await refusal(call.read())
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "ARTIFACT_CORRUPT")
    task = {"init_image": MediaSource(artifact_id=stored.id)}
    assert (
        await refusal(stub.Generate(image_request(task=task)))
    ).code is grpc.StatusCode.DATA_LOSS


def flip_last_bit(data: bytes) -> bytes:
    """The bytes with another last bit."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    "damage",
    [flip_last_bit, lambda data: data[:-1], lambda data: data[:CHUNK], lambda data: data + b"x"],
    ids=["flipped", "cut", "a chunk is missing", "longer"],
)
async def test_damaged_bytes_are_never_complete(
    stub: Stub, server: RunningServer, damage: Callable[[bytes], bytes]
) -> None:
    """A download ends as DATA_LOSS before its last chunk, from whatever offset."""
    data = random.Random(2).randbytes(2 * CHUNK)  # noqa: S311 (any bytes will do)
    stored = await upload(stub, data)
    (server.data / "artifacts" / stored.id).write_bytes(damage(data))
    for offset in (0, 5, CHUNK, len(data) - 1, len(data)):
        received = bytearray()

        async def read_all(start: int, received: bytearray) -> None:
            request = pb.DownloadArtifactRequest(artifact_id=stored.id, offset=start)
            async for message in stub.DownloadArtifact(request):
                received += message.chunk

        refused = await refusal(read_all(offset, received))
        assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "ARTIFACT_CORRUPT")
        assert "damaged" in refused.message
        assert offset + len(received) < len(data) or offset == len(data)


async def test_a_task_never_starts_from_damaged_bytes(stub: Stub, server: RunningServer) -> None:
    """A bit of an image that its decoder would not miss."""
    file = io.BytesIO()
    Image.new("RGB", (48, 40), "red").save(file, "JPEG")
    stored = await upload(stub, file.getvalue())
    damaged = bytearray(file.getvalue())
    damaged[25] ^= 1  # in a quantisation table
    (server.data / "artifacts" / stored.id).write_bytes(damaged)
    task = {"init_image": MediaSource(artifact_id=stored.id)}
    refused = await refusal(stub.Generate(image_request(task=task)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "ARTIFACT_CORRUPT")


async def test_damaged_bytes_are_never_inline(start_server: StartServer) -> None:
    """Of an output whose file was changed while the server was stopped."""
    server = start_server()
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request())).generation
    server.terminate()  # the newest outputs are answered from memory; a new process has none
    path = server.data / "artifacts" / made.outputs[0].artifact.id
    path.write_bytes(flip_last_bit(path.read_bytes()))
    async with aio.insecure_channel(start_server().address) as channel:
        request = pb.GetGenerationRequest(generation_id=made.id, inline_outputs=True)
        refused = await refusal(GenerationServiceStub(channel).GetGeneration(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DATA_LOSS, "ARTIFACT_CORRUPT")
