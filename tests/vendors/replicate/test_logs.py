"""What a service says about a task may quote it; the log does not."""

from __future__ import annotations

import pytest
from grpc import aio

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import image_request, refusal
from tests.vendors.replicate.models import SDXL
from tests.vendors.replicate.stand_in import KEY, StandIn, prediction

PROMPT = "my grandmother's violet lighthouse, in the fog, by the sea"


@pytest.mark.parametrize(
    "message",
    [
        f"ValueError: the prompt '{PROMPT}' is not allowed",
        f'{{"input": "{PROMPT} and", "ctx": 1}}',
        "E" * 250 + " " + PROMPT * 3,
        f"bad input: {PROMPT.upper()!r}",
    ],
)
async def test_no_line_of_the_log_quotes_a_prompt_that_a_service_quotes(
    vendor: StandIn, start_server: StartServer, message: str
) -> None:
    """The caller is told what the service has said; the log says the rest of it."""
    account = {"type": "replicate", "api_key": KEY, "base_url": vendor.api, "model": SDXL}
    server = start_server(engines={"remote": {**account, "poll_seconds": 0.01}})
    vendor.polls.always = prediction("failed", error=message)
    size = {"width": vendor.task.width, "height": vendor.task.height}
    async with aio.insecure_channel(server.address) as channel:
        request = image_request(PROMPT, engine="remote", task=size)
        refused = await refusal(GenerationServiceStub(channel).Generate(request))
    (line,) = [line for line in server.log_lines() if line["event"] == "generation_failed"]
    assert line["reason"] == refused.reason
    assert message[:20] in refused.message
    assert message[:4] in line["error"]
    for word in ("grandmother", "violet", "lighthouse", "fog", "sea"):
        assert word not in server.log.read_text().lower()
