"""A fake server for what a healthy one never does: broken streams, rejected calls, damaged bytes.

It serves one generation with the events 1 to 5, whose one output is IMAGE_FILE.
"""

# ruff: noqa: D102, N802 - the contract names and documents these methods
from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from atelier.v1 import artifact_pb2, engine_pb2, generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)

_M = TypeVar("_M", bound=Message)
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

IMAGE_FILE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8192
"""2 MiB and 8 bytes that look like a PNG file to who reads no further than its first bytes."""
CHUNK = 512 * 1024
ARTIFACT = artifact_pb2.Artifact(
    id="image-1",
    media_type="image/png",
    size=len(IMAGE_FILE),
    sha256=hashlib.sha256(IMAGE_FILE).hexdigest(),
    image_size=artifact_pb2.ImageSize(width=64, height=32),
)
FINISHED = generation_pb2.Generation(
    id="g1",
    request_id="r1",
    state=generation_pb2.STATE_SUCCEEDED,
    engine="stand-in",
    image=task_pb2.ImageTask(prompt="a lamp"),
    outputs=[generation_pb2.Output(artifact=ARTIFACT, seed=7)],
)
LAST = 5


def status(code: grpc.StatusCode, message: str, *details: Message) -> status_pb2.Status:
    """A google.rpc.Status, as the server sends it in its trailers."""
    built = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        built.details.add().Pack(detail)
    return built


def info(reason: str) -> error_details_pb2.ErrorInfo:
    """The detail that every error of the server carries."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="atelier")


@dataclass
class FakeServer(GenerationServiceServicer):
    """Answers as configured, and records its requests."""

    refusals: list[status_pb2.Status | grpc.StatusCode] = field(default_factory=list)
    """How the next calls end, before they begin; one is used up by each call."""
    breaks: list[int] = field(default_factory=list)
    """After how many messages the next streams break; one is used up by each stream."""
    finished: generation_pb2.Generation = field(default_factory=lambda: FINISHED)
    image_file: bytes = IMAGE_FILE
    requests: list[Message] = field(default_factory=list)
    authorizations: list[str | bytes | None] = field(default_factory=list)
    """What each call said about who calls."""
    repeat_events: bool = False
    """Send every event from the first on, whatever was asked."""
    hangs_after: int = 0
    """After how many events a generation goes on for ever; 0 lets it end."""
    answers: asyncio.Event | None = None
    """Until it is set, a request to generate is accepted, and not answered; `waiting` is released for each."""
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    engine: engine_pb2.Engine = field(default_factory=lambda: engine_pb2.Engine(name="stand-in"))
    preview: generation_pb2.Preview | None = None
    """What every event but the last shows."""

    async def _begin(self, request: Message, context: Context) -> None:
        self.requests.append(request)
        self.authorizations.append(dict(context.invocation_metadata() or ()).get("authorization"))
        match self.refusals.pop(0) if self.refusals else None:
            case status_pb2.Status() as rich:
                await context.abort_with_status(rpc_status.to_status(rich))
            case grpc.StatusCode() as code:
                await context.abort(code, "bare")
            case _:
                pass

    async def _broken(self, messages: Sequence[_M], context: Context) -> AsyncGenerator[_M]:
        limit = self.breaks.pop(0) if self.breaks else len(messages)
        for message in messages[:limit]:
            yield message
        if limit < len(messages):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        await self._begin(request, context)
        if self.answers is not None:
            self.waiting.release()
            await self.answers.wait()
        if request.response_mode == pb.RESPONSE_MODE_ON_ACCEPTANCE:
            return pb.GenerateResponse(
                generation=generation_pb2.Generation(
                    id=self.finished.id, state=generation_pb2.STATE_QUEUED
                )
            )
        return pb.GenerateResponse(generation=self.finished)

    async def StreamProgress(
        self, request: pb.StreamProgressRequest, context: Context
    ) -> AsyncGenerator[pb.StreamProgressResponse]:
        await self._begin(request, context)
        first = 1 if self.repeat_events else request.after_sequence + 1
        last = self.hangs_after or LAST
        events = [self._event(sequence) for sequence in range(first, last + 1)]
        async for message in self._broken(events, context):
            yield message
        if self.hangs_after:
            await asyncio.Event().wait()

    def _event(self, sequence: int) -> pb.StreamProgressResponse:
        event = pb.StreamProgressResponse(
            sequence=sequence,
            generation_id=self.finished.id,
            state=generation_pb2.STATE_RUNNING,
            stage="denoise",
            step=sequence,
            steps=LAST,
            progress=sequence / LAST,
        )
        if sequence == LAST:
            event.state = self.finished.state
            event.generation.CopyFrom(self.finished)
        elif self.preview is not None:
            event.preview.CopyFrom(self.preview)
        return event

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: Context
    ) -> AsyncGenerator[pb.DownloadArtifactResponse]:
        await self._begin(request, context)
        chunks = [
            pb.DownloadArtifactResponse(chunk=self.image_file[at : at + CHUNK])
            for at in range(request.offset, len(self.image_file), CHUNK)
        ]
        parts = [pb.DownloadArtifactResponse(artifact=ARTIFACT), *chunks]
        async for message in self._broken(parts, context):
            yield message

    async def UploadArtifact(
        self, requests: AsyncIterator[pb.UploadArtifactRequest], context: Context
    ) -> pb.UploadArtifactResponse:
        parts = [part async for part in requests]
        await self._begin(parts[0], context)
        self.requests.extend(parts[1:])
        return pb.UploadArtifactResponse(artifact=ARTIFACT)

    async def GetGeneration(
        self, request: pb.GetGenerationRequest, context: Context
    ) -> pb.GetGenerationResponse:
        await self._begin(request, context)
        return pb.GetGenerationResponse(generation=self.finished)

    async def ListGenerations(
        self, request: pb.ListGenerationsRequest, context: Context
    ) -> pb.ListGenerationsResponse:
        await self._begin(request, context)
        return pb.ListGenerationsResponse(generations=[self.finished])

    async def CancelGeneration(
        self, request: pb.CancelGenerationRequest, context: Context
    ) -> pb.CancelGenerationResponse:
        await self._begin(request, context)
        return pb.CancelGenerationResponse(
            outcome=generation_pb2.CANCEL_OUTCOME_STOPPED,
            stopped_at_step=2,
            generation=self.finished,
        )

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, context: Context
    ) -> pb.GetCapabilitiesResponse:
        await self._begin(request, context)
        return pb.GetCapabilitiesResponse(engines=[self.engine])

    async def Health(self, request: pb.HealthRequest, context: Context) -> pb.HealthResponse:
        await self._begin(request, context)
        return pb.HealthResponse(status=pb.SERVING_STATUS_NOT_SERVING, version="0")

    async def PlanGeneration(
        self, request: pb.PlanGenerationRequest, context: Context
    ) -> pb.PlanGenerationResponse:
        await self._begin(request, context)
        named = self.finished.receipt.parameters
        return pb.PlanGenerationResponse(engine="stand-in", accepted=True, parameters=named)

    async def PauseEngine(
        self, request: pb.PauseEngineRequest, context: Context
    ) -> pb.PauseEngineResponse:
        await self._begin(request, context)
        return pb.PauseEngineResponse(pause=engine_pb2.EnginePause(reason=request.reason))

    async def ResumeEngine(
        self, request: pb.ResumeEngineRequest, context: Context
    ) -> pb.ResumeEngineResponse:
        await self._begin(request, context)
        return pb.ResumeEngineResponse(was_paused=True)

    async def ClearQueue(
        self, request: pb.ClearQueueRequest, context: Context
    ) -> pb.ClearQueueResponse:
        await self._begin(request, context)
        return pb.ClearQueueResponse(cancelled=3)


@asynccontextmanager
async def serve(service: FakeServer, address: str = "127.0.0.1:0") -> AsyncGenerator[str]:
    """Serve on a port of this machine; yields HOST:PORT."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GenerationServiceServicer_to_server(service, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
