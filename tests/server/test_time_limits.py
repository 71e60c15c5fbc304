"""`timeout_seconds` of an engine: of every type, through the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.load import load
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, image_request, refusal

LIMITED = {"type": "sketch", "hang": True, "timeout_seconds": 0.2}


@pytest.fixture
def server(start_server: StartServer) -> RunningServer:
    """Two engines that never finish a step; one has a fallback."""
    return start_server(
        engines={
            "alone": LIMITED,
            "replaced": {**LIMITED, "fallbacks": ["quick"]},
            "quick": {"type": "sketch"},
        }
    )


@pytest.fixture
async def stub(server: RunningServer) -> AsyncIterator[Stub]:
    """Calls the server."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


async def test_a_local_task_over_the_limit_fails_or_goes_to_the_fallback(stub: Stub) -> None:
    """The caller's own time limit was not reached."""
    refused = await refusal(stub.Generate(image_request(engine="alone")))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "ENGINE_TIMEOUT",
    )
    assert "longer than 0.2 s, the limit of this engine" in refused.message
    made = (await stub.Generate(image_request(engine="replaced"))).generation
    assert (made.state, made.engine) == (State.STATE_SUCCEEDED, "quick")
    first = made.receipt.attempts[0]
    assert first.outcome == AttemptOutcome.ATTEMPT_OUTCOME_FAILED
    assert first.failure.reason == "ENGINE_TIMEOUT"


def test_a_type_with_a_time_limit_of_its_own_keeps_it(tmp_path: Path) -> None:
    """Types of remote services know best what to do at the end of it."""
    path = tmp_path / "atelier.yaml"
    path.write_text(
        "engines: {fal: {type: fal, api_key: key, timeout_seconds: 5}, quick: {type: sketch, timeout_seconds: 6}}"
    )
    engines = load(path).engines
    assert engines["fal"].timeout_seconds is None
    assert engines["fal"].config.model_dump()["timeout_seconds"] == 5
    assert engines["quick"].timeout_seconds == 6
