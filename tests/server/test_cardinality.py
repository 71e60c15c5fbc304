"""How many series the metrics have depends on the configuration, and not on what callers send."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import RunningServer, StartServer
from tests.server.calls import image_request
from tests.server.test_metrics import fetch, samples

MANY = 25


async def call_variously(server: RunningServer, word: str) -> None:
    """Calls that succeed and fail, with the word in everything that a caller may choose."""
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        metadata = (("x-request-id", word), ("traceparent", f"00-{word:0>32}-b7ad6b7169203331-01"))
        requests = (
            image_request(word, request_id=f"id-{word}"),
            image_request(word, request_id=f"id-{word}"),
            image_request(engine=f"engine-{word}"),
        )
        for request in requests:
            with suppress(aio.AioRpcError):
                await stub.Generate(request, metadata=metadata)
        with suppress(aio.AioRpcError):
            await stub.GetGeneration(pb.GetGenerationRequest(generation_id=f"no-{word}"))
        with suppress(aio.AioRpcError):
            await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=f"no-{word}"))
        for path in (f"/atelier.v1.GenerationService/No{word}", f"/no.{word}/Generate"):
            with suppress(aio.AioRpcError):
                await channel.unary_unary(path)(b"")  # type: ignore[arg-type]  # any message
    await asyncio.to_thread(fetch, server, f"/{word}")


async def test_callers_make_no_new_series(start_server: StartServer) -> None:
    """Not by prompts, ids, names of what does not exist, unknown methods, or traces."""
    server = start_server()
    for word in ("a", "b"):
        await call_variously(server, word)
    before = samples(server)
    for number in range(MANY):
        await call_variously(server, f"{number + 16:x}")
    after = samples(server)
    assert after.keys() == before.keys()
    ended = [name for name in after if after[name] - before[name] == MANY]
    assert any(name == "atelier_generations_total" for name, _ in ended)
    assert len(after) < 1500
