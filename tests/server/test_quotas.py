"""What a tenant may use: calls per second, and generations that wait or run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_pb2 import STATE_QUEUED, STATE_RUNNING
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import (
    Refusal,
    Stub,
    image_request,
    on_acceptance,
    read,
    refusal,
    slow_request,
)
from tests.server.test_auth import bearer, make_key


def detail(error: aio.AioRpcError, kind: Message) -> Message:
    """The detail of that type in the error."""
    status = status_pb2.Status.FromString(
        dict(error.trailing_metadata())["grpc-status-details-bin"]
    )
    next(found for found in status.details if found.Is(kind.DESCRIPTOR)).Unpack(kind)
    return kind


async def test_each_tenant_has_its_limits(start_server: StartServer, tmp_path: Path) -> None:
    """Over a restart too; who is at the limit may still attach, look and cancel, and others go on."""
    keys = tmp_path / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    settings = {
        "auth": {"keys": {"file": str(keys)}},
        "tenants": {"red": {"max_unfinished": 3}},
        "tenant_defaults": {"max_unfinished": 1000},
        "engines": {"sketch": {"type": "sketch", "concurrency": 1}},
    }
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)

        async def submit(number: int) -> str:
            request = on_acceptance(slow_request(request_id=f"id{number}"))
            try:
                return (await stub.Generate(request, metadata=red)).generation.id
            except aio.AioRpcError as error:
                return "" if read(error).reason == "TENANT_QUOTA" else str(error)

        ids = await asyncio.gather(*(submit(number) for number in range(10)))
        assert sum(map(bool, ids)) == 3
        assert await submit(ids.index(next(filter(None, ids))))  # the same request is found
        await stub.Generate(on_acceptance(slow_request()), metadata=blue)
    server.kill()
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        refused = await refusal(stub.Generate(image_request(), metadata=red))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "TENANT_QUOTA",
        )
        assert "may have 3 generations" in refused.message
        assert (refused.retry_seconds, refused.pushback_ms) == (1.0, "1000")
        plan = pb.PlanGenerationRequest(generate=image_request())
        assert (await stub.PlanGeneration(plan, metadata=blue)).accepted
        rejection = (await stub.PlanGeneration(plan, metadata=red)).rejection
        assert (rejection.reason, rejection.message) == ("TENANT_QUOTA", refused.message)
        for name in filter(None, ids):
            cancel = pb.CancelGenerationRequest(generation_id=name)
            await stub.CancelGeneration(cancel, metadata=red)
        request = on_acceptance(image_request())
        assert (await stub.Generate(request, metadata=red)).generation.id


async def test_cost_money_and_bytes_are_limited(start_server: StartServer, tmp_path: Path) -> None:
    """Each with its own error; a plan tells before; the answer says whether another try helps, and when."""
    keys = tmp_path / "keys.json"
    names = ("cost", "daily", "money", "bytes")
    callers = {name: bearer(make_key(keys, tenant=name)) for name in names}
    server = start_server(
        auth={"keys": {"file": str(keys)}},
        tenants={
            "cost": {"max_queued_cost": 0.001},
            "daily": {"daily_cost": 0.05},
            "money": {"daily_budget": 0},
            "bytes": {"max_stored_bytes": 1},
        },
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)

        async def refuse(tenant: str, request: pb.GenerateRequest) -> Refusal:
            plan = pb.PlanGenerationRequest(generate=request)
            planned = await stub.PlanGeneration(plan, metadata=callers[tenant])
            request.request_id = tenant
            refused = await refusal(stub.Generate(request, metadata=callers[tenant]))
            assert (refused.code, refused.reason) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "TENANT_QUOTA",
            )
            assert planned.rejection.message == refused.message
            return refused

        large = await refuse("cost", image_request())
        assert "0.001 cost units that wait" in large.message
        assert (large.retry_seconds, large.pushback_ms) == (None, None)
        await stub.Generate(image_request(task={"steps": 8}), metadata=callers["daily"])
        for _ in range(2):  # the second one has nothing left of the day
            daily = image_request(task={"steps": 10})
            refused = await refuse("daily", daily)
            assert refused.retry_seconds is not None
            assert refused.pushback_ms == "-1"
        assert "may spend 0 a day" in (await refuse("money", image_request())).message
        await stub.Generate(image_request(), metadata=callers["bytes"])
        assert "may store 1 byte," in (await refuse("bytes", image_request())).message
        header = pb.UploadArtifactRequest(header=UploadHeader(media_type="image/png"))
        upload = stub.UploadArtifact(iter([header]), metadata=callers["bytes"])
        assert (await refusal(upload)).reason == "TENANT_QUOTA"


async def test_so_many_of_a_tenant_run_at_once(start_server: StartServer, tmp_path: Path) -> None:
    """Over all engines, over a restart too; others go on, and the next begins when one has stopped."""
    keys = tmp_path / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    engine = {"type": "sketch", "concurrency": 2}
    settings = {
        "auth": {"keys": {"file": str(keys)}},
        "tenants": {"red": {"max_running": 1}},
        "engines": {"sketch": engine, "other": engine},
    }
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for name in ("sketch", "sketch", "other"):
            request = on_acceptance(slow_request(3000, engine=name))
            await stub.Generate(request, metadata=red)
        for name in ("sketch", "other"):  # each has a worker that is free
            await stub.Generate(image_request(engine=name), metadata=blue)
        await find_running(stub, red, waiting=2)
    server.kill()
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        for waiting in (2, 1, 0):
            running = await find_running(stub, red, waiting=waiting)
            cancel = pb.CancelGenerationRequest(generation_id=running)
            await stub.CancelGeneration(cancel, metadata=red)


async def find_running(stub: Stub, caller: tuple[tuple[str, str], ...], *, waiting: int) -> str:
    """Wait until so many generations of the caller wait and one runs; never more than one does. Its id."""
    while True:
        listed = await stub.ListGenerations(pb.ListGenerationsRequest(), metadata=caller)
        running = [one.id for one in listed.generations if one.state == STATE_RUNNING]
        assert len(running) <= 1
        if running and sum(one.state == STATE_QUEUED for one in listed.generations) == waiting:
            return running[0]
        await asyncio.sleep(0.01)


async def test_calls_per_second_are_limited(start_server: StartServer, tmp_path: Path) -> None:
    """The error says when to try again; cancellations and probes are never kept back."""
    keys = tmp_path / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    server = start_server(
        auth={"keys": {"file": str(keys)}},
        tenants={"red": {"requests_per_second": 0.01}},
    )
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await stub.Health(pb.HealthRequest(), metadata=red)
        with_error = stub.Health(pb.HealthRequest(), metadata=red)
        refused = await refusal(with_error)
        assert refused.reason == "TENANT_QUOTA"
        assert refused.message == "tenant 'red' may make 0.01 calls a second"
        assert refused.retry_seconds is not None
        assert 90 < refused.retry_seconds <= 100
        assert refused.pushback_ms == "-1"
        cancel = pb.CancelGenerationRequest(generation_id="0" * 26)
        assert (await refusal(stub.CancelGeneration(cancel, metadata=red))).reason == "NOT_FOUND"
        try:
            await stub.Health(pb.HealthRequest(), metadata=red)
        except aio.AioRpcError as error:
            found = detail(error, error_details_pb2.QuotaFailure())
            assert found.violations[0].subject == "tenant:red"  # type: ignore[attr-defined]  # of that type
        for _ in range(5):
            await stub.Health(pb.HealthRequest(), metadata=blue)
