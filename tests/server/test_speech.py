"""A server speaks when it is asked to by name, and says why a duration has no effect."""

from __future__ import annotations

import pytest
from grpc import aio

from atelier.v1.generation_pb2 import DISPOSITION_IGNORED
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import Stub, audio_request, image_request

pytest.importorskip("hibari", reason="the extra `speech` is not installed")


async def test_a_voice_says_nothing_that_was_not_meant_for_it(start_server: StartServer) -> None:
    """A description goes to another engine, though the voice is the first; by its name it speaks."""
    server = start_server(engines={"voice": {"type": "speech"}, "sketch": {"type": "sketch"}})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        for request in (audio_request(engine=""), image_request(engine="")):
            assert (await stub.Generate(request)).generation.engine == "sketch"
        made = await stub.Generate(audio_request("Good morning.", seconds=9.0, engine="voice"))
    (entry,) = [one for one in made.generation.receipt.parameters if one.name == "duration"]
    assert entry.disposition == DISPOSITION_IGNORED
    assert "the prompt decides" in entry.explanation
    (output,) = made.generation.outputs
    assert 0.5 < output.audio.samples / output.audio.sample_rate < 4.0
