"""Priorities on a real server: what somebody waits for goes before a tenant's batch work, which is not forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import (
    PRIORITY_BATCH,
    PRIORITY_INTERACTIVE,
    STATE_QUEUED,
    STATE_SUCCEEDED,
    Generation,
)
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer, launch
from tests.server.calls import Stub, image_request, on_acceptance, refusal
from tests.server.test_auth import bearer, make_key

ONE_BY_ONE = {"sketch": {"type": "sketch", "concurrency": 1}}


async def submit(
    stub: Stub,
    name: str,
    *,
    batch: bool = False,
    engine: str = "sketch",
    caller: Sequence[tuple[str, str]] = (),
) -> Generation:
    """A generation that is accepted and runs on without this call."""
    request = on_acceptance(image_request(engine=engine, request_id=name))
    if batch:
        request.priority = PRIORITY_BATCH
    return (await stub.Generate(request, metadata=caller)).generation


async def wait_all(
    stub: Stub, made: Sequence[Generation], caller: Sequence[tuple[str, str]] = ()
) -> list[str]:
    """Their request ids, in the order in which they started."""
    started = []
    for each in made:
        follow = pb.StreamProgressRequest(generation_id=each.id, after_sequence=1)
        ended = [event async for event in stub.StreamProgress(follow, metadata=caller)][
            -1
        ].generation
        assert ended.state == STATE_SUCCEEDED
        assert ended.priority == each.priority
        started.append((ended.start_time.ToNanoseconds(), ended.request_id))
    return [name for _, name in sorted(started)]


async def pause(stub: Stub, caller: Sequence[tuple[str, str]] = (), engine: str = "sketch") -> None:
    """Have the engine begin nothing."""
    await stub.PauseEngine(pb.PauseEngineRequest(engine=engine), metadata=caller)


async def resume(
    stub: Stub, caller: Sequence[tuple[str, str]] = (), engine: str = "sketch"
) -> None:
    """Have the engine begin what waits."""
    await stub.ResumeEngine(pb.ResumeEngineRequest(engine=engine), metadata=caller)


async def test_an_interactive_generation_overtakes_its_tenants_batch_work(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It is the first of its tenant, and another tenant's turn is what it was; also after the server was killed."""
    keys = tmp_path / "keys.json"
    ada, bob = (bearer(make_key(keys, tenant=name)) for name in ("ada", "bob"))
    settings = {"auth": {"keys": {"file": str(keys)}}, "engines": ONE_BY_ONE}
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await pause(stub, ada)
        many = [await submit(stub, f"batch{n}", batch=True, caller=ada) for n in range(50)]
        others = [await submit(stub, f"other{n}", batch=True, caller=bob) for n in range(2)]
        urgent = await submit(stub, "urgent", caller=ada)
        assert urgent.priority == PRIORITY_INTERACTIVE
        assert {each.priority for each in many} == {PRIORITY_BATCH}
        async for event in stub.StreamProgress(
            pb.StreamProgressRequest(generation_id=urgent.id), metadata=ada
        ):
            assert (event.state, event.queue_position) == (STATE_QUEUED, 0)
            break
    server.kill()
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await resume(stub, ada)
        order = await wait_all(stub, [*many, urgent], ada)
        assert order == ["urgent", *(f"batch{n}" for n in range(50))]
        bobs = await wait_all(stub, others, bob)
        assert bobs == ["other0", "other1"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with an engine that does one thing at a time, and one whose queue is soon full."""
    small = {"type": "sketch", "queue_limit": 2}
    running = launch(tmp_path_factory.mktemp("served"), engines={**ONE_BY_ONE, "small": small})
    yield running
    running.kill()


async def test_batch_work_is_not_forgotten(served: RunningServer) -> None:
    """Of equal cost, each ninth is one of those that may wait, whatever else there is."""
    async with aio.insecure_channel(served.address) as channel:
        stub = GenerationServiceStub(channel)
        await pause(stub)
        made = [await submit(stub, f"b{n}", batch=True) for n in range(3)]
        made += [await submit(stub, f"i{n}") for n in range(20)]
        await resume(stub)
        order = await wait_all(stub, made)
    assert "".join(name[0] for name in order) == "iiiiiiiibiiiiiiiibiiiib"


async def test_a_full_queue_of_batch_work_has_room_for_one_that_somebody_waits_for(
    served: RunningServer,
) -> None:
    """A plan says so, too; and a request that is sent again with another priority is the same generation."""
    async with aio.insecure_channel(served.address) as channel:
        stub = GenerationServiceStub(channel)
        await pause(stub, engine="small")
        made = [await submit(stub, f"s{n}", batch=True, engine="small") for n in range(2)]
        planned = pb.PlanGenerationRequest(generate=image_request(engine="small"))
        assert (await stub.PlanGeneration(planned)).accepted
        planned.generate.priority = PRIORITY_BATCH
        assert (await stub.PlanGeneration(planned)).rejection.reason == "QUEUE_FULL"
        more = submit(stub, "more", batch=True, engine="small")
        assert (await refusal(more)).reason == "QUEUE_FULL"
        made.append(await submit(stub, "urgent", engine="small"))
        again = await submit(stub, "urgent", batch=True, engine="small")
        assert (again.id, again.priority) == (made[-1].id, PRIORITY_INTERACTIVE)
        assert (await refusal(submit(stub, "urgent2", engine="small"))).reason == "QUEUE_FULL"
        await resume(stub, engine="small")
        assert await wait_all(stub, made) == ["urgent", "s0", "s1"]
