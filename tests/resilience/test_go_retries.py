"""The standard Go client with a retry policy on UNAVAILABLE: one call is one generation, however it is cut."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, Generation, State
from tests.conftest import ROOT, RunningServer, StartServer
from tests.resilience.follower import Connect, list_all, wait_ended, wait_until
from tests.server.calls import Stub, image_request

GO_CLIENT = ROOT / ".tools" / "bin" / "go-client"
pytestmark = pytest.mark.skipif(
    not GO_CLIENT.exists(),
    reason="there is no Go client: `make go-tools` builds it where Go is installed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call of the Go client ended."""

    code: grpc.StatusCode
    attempts: int
    generation: Generation
    reason: str
    metadata: Mapping[str, str]
    retry_seconds: int
    pushback_ms: str


async def call_generate(server: RunningServer, request: pb.GenerateRequest) -> Answer:
    """Call Generate with the Go client."""
    arguments = ("-address", server.address, "-method", "Generate")
    process = await asyncio.create_subprocess_exec(
        GO_CLIENT, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        output, _ = await process.communicate(request.SerializeToString())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ended = json.loads(output)
    details = status_pb2.Status.FromString(base64.b64decode(ended["details"] or ""))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in details.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    codes = {code.value[0]: code for code in grpc.StatusCode}
    response = pb.GenerateResponse.FromString(base64.b64decode(ended["response"] or ""))
    return Answer(
        code=codes[ended["code"]],
        attempts=ended["attempts"],
        generation=response.generation,
        reason=info.reason,
        metadata=info.metadata,
        retry_seconds=retry.retry_delay.seconds,
        pushback_ms=(ended["trailers"] or {}).get("grpc-retry-pushback-ms", [""])[0],
    )


def engines(seconds: float) -> dict[str, dict[str, object]]:
    """An engine that takes so long."""
    return {"sketch": {"type": "sketch", "delay_seconds": seconds, "concurrency": 1}}


async def list_running(stub: Stub) -> list[Generation]:
    """The generations that run."""
    request = pb.ListGenerationsRequest(states=[State.STATE_RUNNING])
    return list((await stub.ListGenerations(request)).generations)


async def wait_running(server: RunningServer, connect: Connect) -> None:
    """Wait until something runs."""
    async with connect(server) as stub:

        async def runs() -> bool:
            return bool(await list_running(stub))

        await wait_until(runs)


async def test_a_call_that_a_drain_cuts_names_its_generation_and_is_not_sent_again(
    start_server: StartServer, connect: Connect
) -> None:
    """Without a request id; the same request under the id that the error names gets the outputs."""
    server = start_server(engines=engines(60), drain_seconds=0.2)
    calling = asyncio.create_task(call_generate(server, image_request()))
    await wait_running(server, connect)
    assert await asyncio.to_thread(server.terminate) == 0
    cut = await calling
    assert (cut.code, cut.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert (cut.attempts, cut.pushback_ms) == (1, "-1")
    assert cut.retry_seconds >= 1

    again = start_server(address=server.address, engines=engines(0))
    async with connect(again) as stub:
        same = image_request(request_id=cut.metadata["request_id"])
        made = (await stub.Generate(same)).generation
        assert (made.id, made.state) == (cut.metadata["generation_id"], State.STATE_SUCCEEDED)
        assert [found.id for found in await list_all(stub)] == [made.id]


async def test_a_call_with_a_request_id_gets_its_outputs_after_a_drain(
    start_server: StartServer, connect: Connect
) -> None:
    """The retry policy sends it again, to the next server."""
    server = start_server(engines=engines(60), drain_seconds=0.2)
    calling = asyncio.create_task(call_generate(server, image_request(request_id="mine")))
    await wait_running(server, connect)
    assert await asyncio.to_thread(server.terminate) == 0
    again = start_server(address=server.address, engines=engines(0))
    answer = await calling
    assert (answer.code, answer.generation.state) == (grpc.StatusCode.OK, State.STATE_SUCCEEDED)
    assert answer.attempts > 1
    async with connect(again) as stub:
        assert [found.id for found in await list_all(stub)] == [answer.generation.id]


async def test_a_repeated_call_without_request_id_finds_what_it_has_made(
    start_server: StartServer, connect: Connect
) -> None:
    """The server was killed, so nobody could tell the client; two equal calls find a generation each."""
    server = start_server(engines=engines(60))
    calls = [asyncio.create_task(call_generate(server, image_request())) for _ in range(2)]
    async with connect(server) as stub:

        async def accepted() -> bool:
            return len(await list_all(stub)) == 2 and bool(await list_running(stub))

        await wait_until(accepted)
        before = {found.id for found in await list_all(stub)}
    server.kill()
    again = start_server(address=server.address, engines=engines(0.5))
    answers = [await call for call in calls]
    assert [answer.code for answer in answers] == [grpc.StatusCode.OK] * 2
    assert min(answer.attempts for answer in answers) > 1
    assert {answer.generation.id for answer in answers} == before
    async with connect(again) as stub:
        assert {found.id for found in await wait_ended(stub, list(before))} == before
        assert {found.id for found in await list_all(stub)} == before


async def test_repeated_calls_that_were_rejected_make_generations_of_their_own(
    start_server: StartServer, connect: Connect
) -> None:
    """Their queue was full, which the retry policy waits for; equal tasks are not merged."""
    narrow = {**engines(1.0)["sketch"], "queue_limit": 2}
    server = start_server(engines={"sketch": narrow})
    calls = [asyncio.create_task(call_generate(server, image_request())) for _ in range(5)]
    answers = [await call for call in calls]
    done = [answer for answer in answers if answer.code is grpc.StatusCode.OK]
    assert any(answer.attempts > 1 for answer in done)
    assert len({answer.generation.id for answer in done}) == len(done)
    async with connect(server) as stub:
        assert len(await list_all(stub)) == len(done)


async def test_a_call_whose_answer_was_lost_is_not_paid_again(
    start_server: StartServer, connect: Connect
) -> None:
    """The generation ends after the restart, before the call comes again: its outputs are the answer."""
    server = start_server(engines=engines(60))
    calling = asyncio.create_task(call_generate(server, image_request()))
    await wait_running(server, connect)
    server.kill()
    other = start_server(engines=engines(0))  # where the client does not look for it
    async with connect(other) as stub:
        (made,) = await wait_ended(stub, [found.id for found in await list_all(stub)])
    assert other.terminate() == 0
    again = start_server(address=server.address, engines=engines(0))
    answer = await calling
    assert (answer.code, answer.generation.id) == (grpc.StatusCode.OK, made.id)
    assert made.receipt.attempts[-1].outcome == AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED
    async with connect(again) as stub:
        assert len(await list_all(stub)) == 1
