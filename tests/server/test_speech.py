"""A server speaks when it is asked to by name, and says why a duration has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import aio

from atelier.v1.generation_pb2 import DISPOSITION_IGNORED
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import Stub, audio_request, image_request, refusal
from tests.server.conftest import install_odd

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


async def test_no_error_sends_the_caller_to_an_engine_that_would_make_something_else(
    start_server: StartServer, tmp_path: Path
) -> None:
    """A voice would say the description, and what others make says no words; a placeholder is named as the last."""
    engines = {"voice": {"type": "speech"}, "odd": {"type": "odd"}, "sketch": {"type": "sketch"}}
    server = start_server(engines=engines, environment=install_odd(tmp_path / "site"))
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(audio_request(engine="odd")))
        assert refused.metadata["engines"] == "sketch"
        refused = await refusal(stub.Generate(audio_request("x" * 2001, engine="voice")))
        assert "at most 2000" in refused.message
        assert "sketch" not in refused.message
        refused = await refusal(stub.Generate(image_request(engine="voice")))
        assert refused.metadata["engines"] == "odd"
