"""The calls that are measured, and their timing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from grpc import aio

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask

if TYPE_CHECKING:  # in the type stubs alone
    from atelier.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

    Stub = GenerationServiceAsyncStub

Metadata = tuple[tuple[str, str], ...]
"""What a caller sends along."""
OUTPUT_BYTES = 2**20
"""Bytes of one image in the measurements that compare with the bare server."""

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # every channel is a connection of its own
)
_LARGE_FRAMES = (
    ("grpc.http2.max_frame_size", 2**24 - 1),
    ("grpc.http2.lookahead_bytes", 16 * 2**20),
)


@asynccontextmanager
async def open_channel(address: str, *, large_frames: bool = False) -> AsyncGenerator[aio.Channel]:
    """A connection of its own; `large_frames` with settings that gRPC documents for large messages."""
    options = (*_OPTIONS, *(_LARGE_FRAMES if large_frames else ()))
    async with aio.insecure_channel(address, options=options) as channel:
        yield channel


@asynccontextmanager
async def open_stub(address: str, *, large_frames: bool = False) -> AsyncGenerator[Stub]:
    """A stub on a connection of its own."""
    async with open_channel(address, large_frames=large_frames) as channel:
        yield GenerationServiceStub(channel)


def make_request(*, steps: int | None = None, inline: bool = True) -> GenerateRequest:
    """A request for an image; duration and size are settings of the engine."""
    task = ImageTask(prompt="a lighthouse", width=64, height=64, steps=steps, seed=7)
    return GenerateRequest(engine="sketch", image=task, inline_outputs=inline)


async def time_generate(
    stub: Stub, *, output_bytes: int = OUTPUT_BYTES, metadata: Metadata = ()
) -> float:
    """Seconds from the call to an image of so many bytes in hand."""
    start = time.perf_counter()
    response = await stub.Generate(make_request(), metadata=metadata)
    seconds = time.perf_counter() - start
    assert len(response.generation.outputs[0].data) == output_bytes
    return seconds


async def measure_rate(
    stub: Stub,
    *,
    callers: int,
    calls: int,
    output_bytes: int = OUTPUT_BYTES,
    metadata: Metadata = (),
) -> float:
    """Generations a second when so many callers each make their next call as soon as the last is answered."""
    remaining = iter(range(calls))

    async def keep_calling() -> None:
        for _ in remaining:
            await time_generate(stub, output_bytes=output_bytes, metadata=metadata)

    start = time.perf_counter()
    await asyncio.gather(*(keep_calling() for _ in range(callers)))
    return calls / (time.perf_counter() - start)
