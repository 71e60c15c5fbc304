"""Responses with the bytes of outputs are what a serializer of the whole message would send."""

from __future__ import annotations

import hashlib

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.rpc.inline_outputs import SerializedResponse, serialize_with_outputs
from tests.conftest import StartServer
from tests.server.calls import image_request

CONTENTS = [b"a" * 127, None, b"", bytes(200_000)]


def make_generation(contents: list[bytes | None]) -> Generation:
    """An ended generation with these outputs."""
    generation = Generation(id="g" * 26, engine="sketch")
    for index, data in enumerate(contents):
        output = generation.outputs.add(seed=index, data=data or b"")
        output.artifact.id = f"{generation.id}-1-{index}"
    return generation


@pytest.mark.parametrize(
    "response",
    [
        pb.GenerateResponse(),
        pb.GetGenerationResponse(),
        pb.StreamProgressResponse(sequence=9, progress=1.0, generation_id="g" * 26),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_joined_response_is_the_message_and_holds_every_field_once(
    response: pb.GenerateResponse, count: int
) -> None:
    """It parses to the same message, and has not a byte more."""
    contents = CONTENTS[:count]
    whole = type(response)()
    whole.CopyFrom(response)
    whole.generation.CopyFrom(make_generation(contents))
    response.generation.CopyFrom(make_generation([None] * count))
    joined: object = serialize_with_outputs(response, contents)
    assert isinstance(joined, SerializedResponse)
    assert type(response).FromString(joined.data) == whole
    assert len(joined.data) == whole.ByteSize()


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
async def test_outputs_of_every_size_are_on_disk_when_they_are_told(
    start_server: StartServer, synchronous: str
) -> None:
    """Written with the end of the generation or before it, the file has the name and the digest of the record."""
    sizes = {"small": 2**13, "large": 3 * 2**20}
    engines = {name: {"type": "sketch", "output_bytes": size} for name, size in sizes.items()}
    server = start_server(
        engines=engines, store={"synchronous": synchronous}, default_engine="small"
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for name, size in sizes.items():
            request = image_request(engine=name, task={"num_images": 2})
            generation = (await stub.Generate(request)).generation
            assert len(generation.outputs) == 2
            for output in generation.outputs:
                data = (server.data / "artifacts" / output.artifact.id).read_bytes()
                assert (len(data), output.artifact.size) == (size, size)
                assert hashlib.sha256(data).hexdigest() == output.artifact.sha256
