"""How calls end that the end of a drain cuts, and what gRPC's library sends by itself, as docs/errors.md says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1 import artifact_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import Connect, wait_until
from tests.server.calls import Refusal, Stub, image_request, on_acceptance, read


async def end_of(calling: Awaitable[object]) -> Refusal:
    """The status with which the call ends, and its details."""
    with pytest.raises(aio.AioRpcError) as caught:
        await calling
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return read(caught.value)


async def read_all(stream: AsyncIterable[object]) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


async def upload_without_end(stub: Stub, stop: asyncio.Event) -> None:
    """An upload whose caller is silent."""

    async def parts() -> AsyncGenerator[pb.UploadArtifactRequest]:
        header = artifact_pb2.UploadHeader(media_type="image/png", size=1000)
        yield pb.UploadArtifactRequest(header=header)
        await stop.wait()

    await stub.UploadArtifact(parts())


async def test_every_call_that_a_drain_cuts_is_told_why(
    start_server: StartServer, connect: Connect
) -> None:
    """Whatever its kind: reason, time to wait, and, if the call has one, the generation that goes on."""
    server = start_server(
        engines={"sketch": {"type": "sketch", "delay_seconds": 60}}, drain_seconds=0.2
    )
    stop = asyncio.Event()
    async with connect(server) as stub, aio.insecure_channel(server.address) as channel:
        made = (await stub.Generate(on_acceptance(image_request()))).generation
        attached = pb.StreamProgressRequest(generation_id=made.id)
        named = image_request(request_id="named")
        calls = {
            "unnamed": end_of(stub.Generate(image_request())),
            "named": end_of(stub.Generate(named)),
            "started": end_of(
                read_all(stub.StreamProgress(pb.StreamProgressRequest(generate=image_request())))
            ),
            "attached": end_of(read_all(stub.StreamProgress(attached))),
            "upload": end_of(upload_without_end(stub, stop)),
            "health": end_of(
                read_all(
                    health_pb2_grpc.HealthStub(channel).Watch(  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
                        health_pb2.HealthCheckRequest()
                    )
                )
            ),
        }
        ends = {name: asyncio.ensure_future(call) for name, call in calls.items()}

        async def running() -> bool:
            request = pb.ListGenerationsRequest(states=[State.STATE_RUNNING])
            return len((await stub.ListGenerations(request)).generations) == 4

        await wait_until(running)
        assert await asyncio.to_thread(server.terminate) == 0
        ended = {name: await end for name, end in ends.items()}
    stop.set()
    for name, end in ended.items():
        assert (end.reason, end.domain, end.retry_seconds) == ("DRAINING", "atelier", 1.0), name
        expected = "-1" if name in {"unnamed", "started"} else "1000"
        assert end.pushback_ms == expected, name
        assert ("generation_id" in end.metadata) == (name not in {"upload", "health"}), name
    assert ended["attached"].metadata == {"generation_id": made.id}
    assert ended["named"].metadata["request_id"] == "named"


async def test_the_library_answers_what_never_reaches_the_service(server: RunningServer) -> None:
    """Without details of ours: an unknown method, a message and metadata that are too large."""
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        unknown: Any = channel.unary_unary(
            "/atelier.v1.GenerationService/Paint",
            request_serializer=empty_pb2.Empty.SerializeToString,
        )
        large = image_request(attachments={"a": bytes(17 * 2**20)})
        found = []
        for call in (
            unknown(empty_pb2.Empty()),
            stub.Generate(large),
            stub.Health(pb.HealthRequest(), metadata=(("x-large", "x" * 40_000),)),
        ):
            with pytest.raises(aio.AioRpcError) as caught:
                await call
            assert "grpc-status-details-bin" not in dict(caught.value.trailing_metadata())
            found.append(caught.value.code())
    assert found == [
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ]
