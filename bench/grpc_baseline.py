"""A minimal grpc.aio server to compare with: one method that returns bytes, one that streams.

Its memory is allocated as the service's is. By default, glibc gives a freed buffer of 1 MiB back to the system or not,
depending on what lies above it in memory: the same server then needs 1.3 ms of CPU for a call, or 6.

`python -m bench.grpc_baseline BYTES` prints its port and serves until it is stopped.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio

from atelier.v1.generation_pb2 import Generation, Output, State
from atelier.v1.generation_service_pb2 import (
    GenerateRequest,
    GenerateResponse,
    StreamProgressRequest,
    StreamProgressResponse,
)
from atelier_server.malloc import tune_malloc

EVENTS = 104
"""In each stream: as many as the service has of a generation with 100 steps."""


async def serve(make: Callable[[], Awaitable[bytes]]) -> None:
    """Answer each Generate with the bytes that `make` returns, on a port that is printed, until the process ends."""
    events = _make_events()

    async def generate(_request: object, _context: object) -> GenerateResponse:
        return GenerateResponse(generation=Generation(outputs=[Output(data=await make())]))

    async def stream(_request: object, _context: object) -> AsyncGenerator[bytes]:
        for event in events:
            yield event

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Generate": grpc.unary_unary_rpc_method_handler(
            generate,
            request_deserializer=GenerateRequest.FromString,
            response_serializer=GenerateResponse.SerializeToString,
        ),
        "StreamProgress": grpc.unary_stream_rpc_method_handler(
            stream, request_deserializer=StreamProgressRequest.FromString
        ),
    }
    server = aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("atelier.v1.GenerationService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def _serve_constant(output_bytes: int) -> None:
    data = bytes(output_bytes)

    async def make() -> bytes:
        return data

    await serve(make)


def _make_events() -> list[bytes]:
    """Messages as the service sends them of steps, serialized."""
    events = []
    for sequence in range(1, EVENTS + 1):
        event = StreamProgressResponse(
            sequence=sequence,
            generation_id="0" * 26,
            state=State.STATE_RUNNING,
            stage="draw",
            step=sequence,
            steps=EVENTS,
            progress=sequence / EVENTS,
            engine="sketch",
            attempt=1,
        )
        event.estimated_remaining.FromMilliseconds(EVENTS - sequence)
        event.time.FromSeconds(1)  # long before anybody watches: no delay is measured
        events.append(event.SerializeToString())
    return events


if __name__ == "__main__":
    tune_malloc()
    asyncio.run(_serve_constant(int(sys.argv[1])))
