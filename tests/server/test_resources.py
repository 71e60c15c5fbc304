"""Generations as resources: get, list, plan, retention."""

from __future__ import annotations

import base64
from collections.abc import Awaitable

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import (
    Stub,
    audio_request,
    dispositions,
    eventually,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
    stored_blobs,
)


async def ids_of(stub: Stub, request: pb.ListGenerationsRequest) -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    while True:
        page = await stub.ListGenerations(request)
        assert len(page.generations) <= request.page_size
        ids += [generation.id for generation in page.generations]
        if not page.next_page_token:
            return ids
        request.page_token = page.next_page_token


async def test_a_generation_can_be_read(stub: Stub) -> None:
    """As the call that submitted it returned it; outputs are inlined only on request."""
    made = (await stub.Generate(image_request())).generation
    request = pb.GetGenerationRequest(generation_id=made.id)
    assert (await stub.GetGeneration(request)).generation == made
    request.inline_outputs = True
    found = (await stub.GetGeneration(request)).generation
    assert len(found.outputs[0].data) == made.outputs[0].artifact.size


async def test_lists_are_newest_first_and_paged(workshop_stub: Stub) -> None:
    """Every generation once; new ones do not shift the pages."""
    made = [
        (await workshop_stub.Generate(image_request(engine="twin"))).generation.id for _ in range(5)
    ]
    first = await workshop_stub.ListGenerations(
        pb.ListGenerationsRequest(engine="twin", page_size=2)
    )
    assert [found.id for found in first.generations] == made[:-3:-1]
    await workshop_stub.Generate(image_request(engine="twin"))
    request = pb.ListGenerationsRequest(
        engine="twin", page_size=2, page_token=first.next_page_token
    )
    rest = await ids_of(workshop_stub, request)
    assert rest[:3] == made[2::-1]
    assert len(rest) == len(set(rest))


async def test_lists_are_filtered(workshop_stub: Stub) -> None:
    """By engine and by state."""
    succeeded = (await workshop_stub.Generate(image_request(engine="odd"))).generation.id
    await refusal(workshop_stub.Generate(image_request("memory", engine="odd")))
    for states, inside in (
        ([], True),
        ([State.STATE_SUCCEEDED], True),
        ([State.STATE_FAILED, State.STATE_CANCELLED], False),
    ):
        request = pb.ListGenerationsRequest(engine="odd", states=states, page_size=50)
        page = (await workshop_stub.ListGenerations(request)).generations
        assert page
        assert {found.engine for found in page} == {"odd"}
        assert not states or {found.state for found in page} <= set(states)
        assert (succeeded in {found.id for found in page}) == inside
    nobody = pb.ListGenerationsRequest(engine="nobody")
    assert not (await workshop_stub.ListGenerations(nobody)).generations


async def test_the_page_size_is_limited(stub: Stub) -> None:
    """A larger size is reduced to the maximum (AIP-158)."""
    await stub.Generate(image_request())
    page = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=2**32 - 1))
    assert 1 <= len(page.generations) <= 500


@pytest.mark.parametrize(
    "token",
    ["garbage", "%%%%", "ü", "\0", base64.urlsafe_b64encode(b"\xff:1").decode(), "Og==", "x" * 512],
)
async def test_an_invalid_page_token_is_rejected(stub: Stub, token: str) -> None:
    """The error names the field."""
    refused = await refusal(stub.ListGenerations(pb.ListGenerationsRequest(page_token=token)))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refused.fields) == {"page_token"}


async def test_a_page_token_is_valid_for_its_query_only(stub: Stub) -> None:
    """A query with another filter rejects it; another page size does not matter."""
    for _ in range(3):
        await stub.Generate(image_request())
    first = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=1))
    other = pb.ListGenerationsRequest(page_token=first.next_page_token, engine="sketch")
    refused = await refusal(stub.ListGenerations(other))
    assert "another engine" in refused.fields["page_token"]
    longer = pb.ListGenerationsRequest(page_token=first.next_page_token, page_size=2)
    assert len((await stub.ListGenerations(longer)).generations) == 2


async def test_expired_generations_are_deleted(start_server: StartServer) -> None:
    """The record, its log, its outputs, its inputs, and their files."""
    server = start_server(store={"retention_seconds": 1})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        first = (await stub.Generate(image_request(inline_outputs=True))).generation
        request = image_request(task={"init_image": MediaSource(attachment="a")})
        request.attachments["a"] = first.outputs[0].data
        made = (await stub.Generate(request)).generation
        assert stored_blobs(server) >= {made.outputs[0].artifact.id}
        gone = pb.GetGenerationRequest(generation_id=made.id)
        while await exists(stub.GetGeneration(gone)):
            pass
        artifact = pb.DownloadArtifactRequest(artifact_id=made.outputs[0].artifact.id)
        while await exists(stub.DownloadArtifact(artifact).read()):
            pass
        watch = pb.StreamProgressRequest(generation_id=made.id)
        assert (await refusal(stub.StreamProgress(watch).read())).reason == "NOT_FOUND"
        assert not (await stub.ListGenerations(pb.ListGenerationsRequest())).generations
        await eventually(lambda: not stored_blobs(server))


async def test_every_client_can_receive_a_page_of_long_tasks(start_server: StartServer) -> None:
    """Pages stay below 3 MiB; together they have every generation, with its task, and nothing twice."""
    server = start_server()
    prompt = "\N{WATER WAVE}" * 8192
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        long = image_request(prompt, task={"negative_prompt": prompt})
        long.response_mode = pb.RESPONSE_MODE_ON_ACCEPTANCE
        made = [(await stub.Generate(long)).generation.id for _ in range(55)]
        listed: list[Generation] = []
        request = pb.ListGenerationsRequest(page_size=100)
        while True:
            page = await stub.ListGenerations(request)
            assert page.ByteSize() <= 3 * 2**20
            listed += page.generations
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert [generation.id for generation in listed] == made[::-1]
        assert {generation.image.prompt for generation in listed} == {prompt}
        assert not any(generation.receipt.parameters for generation in listed)
        one = await stub.GetGeneration(pb.GetGenerationRequest(generation_id=made[0]))
        assert one.generation.receipt.parameters


async def exists(call: Awaitable[object]) -> bool:
    """Whether what the call asks for exists."""
    try:
        await call
    except aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND  # noqa: PT017 (some of the calls may succeed)
        return False
    return True


async def test_a_plan_equals_what_is_then_executed(workshop_stub: Stub) -> None:
    """Engine, parameters and cost are those of the generation."""
    request = image_request(engine="dear", task={"num_images": 3, "seed": 1, "guidance": 99.0})
    plan = await workshop_stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert (plan.engine, plan.accepted) == ("dear", True)
    assert (plan.cost.currency, plan.cost.amount) == ("USD", 1.5)
    made = (await workshop_stub.Generate(request)).generation
    assert plan.parameters == made.receipt.parameters
    assert plan.cost == made.receipt.cost
    assert dispositions(made)["guidance"] == "clamped"
    again = await workshop_stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert again.estimated_duration.ToMicroseconds() > 0
    assert again.HasField("estimated_wait")


async def test_a_plan_names_the_rejection(workshop_stub: Stub) -> None:
    """A rejection of the moment is part of the response; an invalid request is an error."""
    for _ in range(3):
        await workshop_stub.Generate(slow_request(0.3, engine="narrow"))
    request = slow_request(0.3, engine="narrow", timeout_seconds=0.01)
    plan = await workshop_stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert (plan.accepted, plan.rejection.reason) == (False, "DEADLINE_UNATTAINABLE")
    wrong = pb.PlanGenerationRequest(generate=image_request(engine="dear", task={"width": 4160}))
    assert (await refusal(workshop_stub.PlanGeneration(wrong))).reason == "INVALID_REQUEST"
    empty = workshop_stub.PlanGeneration(pb.PlanGenerationRequest())
    assert "generate" in (await refusal(empty)).fields


async def test_a_plan_stores_nothing(stub: Stub, server: RunningServer) -> None:
    """No generation and no attachment; its request id stays unused."""
    before = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=500))
    made = await stub.Generate(image_request(inline_outputs=True))
    stored = stored_blobs(server)
    request = image_request(
        request_id="planned-1", task={"init_image": MediaSource(attachment="a")}
    )
    request.attachments["a"] = made.generation.outputs[0].data
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert plan.accepted
    assert stored_blobs(server) == stored
    after = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=500))
    assert len(after.generations) == min(500, len(before.generations) + 1)
    other = on_acceptance(audio_request(request_id="planned-1"))
    assert (await stub.Generate(other)).generation.request_id == "planned-1"
