"""What callers make the server hold before it has accepted anything is bounded, for each tenant and in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.errors import RequestMemoryError
from atelier_server.rpc.request_memory import Kind, RequestMemory
from atelier_server.shared_memory import Held
from tests.conftest import RunningServer, StartServer
from tests.server.calls import image_request, read, refusal, slow_request
from tests.server.test_auth import bearer, make_key

CALLS = 24
ATTACHED = 15 * 2**20
MOST_GROWTH = 400 * 2**20
"""Of the memory of the server, which is sent 360 MiB and would take three times as much."""
UNIT = 100


def peak_bytes(server: RunningServer) -> int:
    """The most memory that the server has had."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def large(request: pb.GenerateRequest) -> pb.GenerateRequest:
    """The request with a large attachment that nothing uses."""
    request.attachments["unused"] = bytes(ATTACHED)
    return request


def settings(tmp_path: Path) -> dict[str, object]:
    """Of a server with keys."""
    return {"auth": {"keys": {"file": str(tmp_path / "keys.json")}}, "log": {"level": "warning"}}


async def test_large_requests_take_little_memory(start_server: StartServer) -> None:
    """Many at once, which run for long: they take turns to arrive, and nothing keeps them once they are accepted."""
    server = start_server(limits={"max_receiving_bytes": 2**26})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await stub.Generate(image_request())
        before = peak_bytes(server)
        request = large(slow_request(3600))
        calls = [stub.Generate(request) for _ in range(CALLS)]
        listed = pb.ListGenerationsRequest(page_size=100)
        while len((await stub.ListGenerations(listed)).generations) <= CALLS:
            assert not any(call.done() for call in calls)
        assert peak_bytes(server) - before < MOST_GROWTH
        for call in calls:
            call.cancel()


async def test_a_compressed_request_counts_as_what_it_unfolds_to(
    start_server: StartServer,
) -> None:
    """It is refused before it has unfolded to more than may arrive."""
    server = start_server()
    request = image_request()
    request.attachments["zeros"] = bytes(2**27)
    unlimited = [("grpc.max_send_message_length", -1)]
    compressed = grpc.Compression.Gzip
    async with aio.insecure_channel(
        server.address, options=unlimited, compression=compressed
    ) as channel:
        stub = GenerationServiceStub(channel)
        await stub.Generate(image_request())
        before = peak_bytes(server)
        with pytest.raises(aio.AioRpcError, match="larger than max") as refused:
            await stub.Generate(request)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert peak_bytes(server) - before < 2**26


async def test_nobody_without_a_key_makes_the_server_hold_a_request(
    start_server: StartServer, tmp_path: Path
) -> None:
    """It is refused before the server reads it."""
    make_key(tmp_path / "keys.json")
    server = start_server(**settings(tmp_path))
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await refusal(stub.Generate(image_request()))
        before = peak_bytes(server)
        request = large(image_request())
        refused = await asyncio.gather(*(refusal(stub.Generate(request)) for _ in range(CALLS)))
        assert {found.reason for found in refused} == {"UNAUTHENTICATED"}
        assert peak_bytes(server) - before < 2**27
    assert server.log_lines() == []


async def test_uploads_that_do_not_go_on_make_room(
    start_server: StartServer, tmp_path: Path
) -> None:
    """A tenant's uploads may be idle until others wait for their memory; other calls and tenants always go on."""
    keys = tmp_path / "keys.json"
    red, blue = (bearer(make_key(keys, tenant=tenant)) for tenant in ("red", "blue"))
    limits = {"max_message_bytes": 2**20, "max_receiving_bytes": 2**24}
    server = start_server(limits=limits, **settings(tmp_path))
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)

        async def stall() -> AsyncIterator[pb.UploadArtifactRequest]:
            yield pb.UploadArtifactRequest(header=UploadHeader(media_type="image/png", size=9))
            await asyncio.Event().wait()

        stalled = [stub.UploadArtifact(stall(), metadata=red) for _ in range(40)]
        for caller in (red, blue):  # while they hold all that uploads may
            await stub.Generate(image_request(), metadata=caller)
        done, waiting = await asyncio.wait(
            [asyncio.ensure_future(call) for call in stalled], return_when=asyncio.FIRST_COMPLETED
        )
        with pytest.raises(aio.AioRpcError) as ended:
            await done.pop()
        found = read(ended.value)
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_BYTES")
        assert (found.retry_seconds, found.pushback_ms) == (1.0, "1000")
        for call in waiting:
            call.cancel()
        await stub.Health(pb.HealthRequest(), metadata=red)
    assert server.log_lines() == []


def held(memory: RequestMemory, tenant: str = "red", kind: Kind = Kind.TASK) -> Held:
    """What one more request may hold."""
    return memory.hold(tenant, kind)


def make_memory(units: float, wait_seconds: float = 300) -> RequestMemory:
    """Memory for so many requests."""
    return RequestMemory(round(units * UNIT), UNIT, wait_seconds=wait_seconds)


async def fill(memory: RequestMemory, tenant: str, kind: Kind) -> list[Held]:
    """As many requests as find room at once."""
    found = []
    while True:
        found.append(held(memory, tenant, kind))
        try:
            async with asyncio.timeout(0):
                await found[-1].take(UNIT)
        except TimeoutError:
            return found[:-1]


async def test_each_tenant_and_kind_finds_its_part() -> None:
    """A tenant half, of which uploads half and tasks three quarters; the rest is for calls that only ask."""
    memory = make_memory(16)
    assert len(await fill(memory, "red", Kind.UPLOAD)) == 4
    assert len(await fill(memory, "red", Kind.TASK)) == 2
    assert len(await fill(memory, "red", Kind.SHORT)) == 2
    assert [len(await fill(memory, "blue", kind)) for kind in Kind] == [4, 2, 2]
    assert await fill(memory, "green", Kind.SHORT) == []


async def test_what_was_held_goes_to_those_who_wait() -> None:
    """In their order, and as soon as there is room; tenants take turns."""
    memory, order = make_memory(2), list[str]()
    first = held(memory)
    await first.take(UNIT)

    async def wait(tenant: str, name: str) -> None:
        one = held(memory, tenant)
        await one.take(UNIT)
        order.append(name)
        one.shrink(0)

    waiting = [asyncio.create_task(wait("red", f"red {number}")) for number in range(3)]
    await asyncio.sleep(0)
    first.shrink(UNIT - 1)
    assert memory.is_short
    first.shrink(0)
    await asyncio.gather(*waiting)
    assert order == ["red 0", "red 1", "red 2"]
    assert not memory.is_short


async def test_a_message_larger_than_all_memory_is_received_alone() -> None:
    """A small limit makes calls wait, but refuses none for ever."""
    memory = RequestMemory(UNIT // 10, UNIT)
    assert len(await fill(memory, "red", Kind.UPLOAD)) == 1
    assert await fill(memory, "blue", Kind.SHORT) == []


async def test_who_waits_too_long_is_refused_and_keeps_nothing() -> None:
    """Likewise who hangs up."""
    memory = make_memory(2, wait_seconds=0.01)
    first = held(memory)
    await first.take(UNIT)
    with pytest.raises(RequestMemoryError, match="try again"):
        await held(memory).take(UNIT)
    left = asyncio.create_task(held(memory).take(UNIT))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    assert not memory.is_short
    first.shrink(0)
    assert len(await fill(memory, "red", Kind.SHORT)) == 1
