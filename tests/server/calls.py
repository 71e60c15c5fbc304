"""What tests of the server ask for, and how they read what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Disposition, Generation, Parameter
from atelier.v1.task_pb2 import AudioTask, ImageTask
from tests.conftest import RunningServer

if TYPE_CHECKING:
    from atelier.v1.generation_service_pb2_grpc import GenerationServiceAsyncStub

Stub: TypeAlias = "GenerationServiceAsyncStub"
"""The calls, for asyncio; this type exists for type checkers alone."""

SMALL = {"width": 64, "height": 64}
_MESSAGES = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)


def image_request(
    prompt: str = "a lighthouse",
    *,
    task: Mapping[str, Any] | None = None,
    **request: Any,  # noqa: ANN401 (fields of a request)
) -> pb.GenerateRequest:
    """A request for a small picture; `task` adds to the ImageTask, the rest to the request."""
    made = pb.GenerateRequest(image=ImageTask(prompt=prompt, **{**SMALL, **(task or {})}))
    return _with(made, request)


def audio_request(
    prompt: str = "rain",
    *,
    seconds: float = 0.2,
    task: Mapping[str, Any] | None = None,
    **request: Any,  # noqa: ANN401 (fields of a request)
) -> pb.GenerateRequest:
    """A request for a short sound."""
    made = pb.GenerateRequest(audio=AudioTask(prompt=prompt, **(task or {})))
    made.audio.duration.FromMicroseconds(int(seconds * 1e6))
    return _with(made, request)


def _with(made: pb.GenerateRequest, request: dict[str, Any]) -> pb.GenerateRequest:
    options = request.pop("options", None)
    timeout = request.pop("timeout_seconds", None)
    if options:
        made.options.update(options)
    if timeout is not None:
        made.timeout.FromMicroseconds(int(timeout * 1e6))
    made.MergeFrom(pb.GenerateRequest(**{"engine": "sketch", **request}))
    return made


def slow_request(
    seconds: float = 30.0,
    steps: int = 100,
    **request: Any,  # noqa: ANN401 (fields of a request)
) -> pb.GenerateRequest:
    """A picture that takes so long."""
    task = {"steps": steps, **request.pop("task", {})}
    return image_request(task=task, options={"delay_seconds": seconds}, **request)


def on_acceptance(request: pb.GenerateRequest) -> pb.GenerateRequest:
    """The same, to be answered at once and to run on its own."""
    request.response_mode = pb.RESPONSE_MODE_ON_ACCEPTANCE
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """How a call failed."""

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: Mapping[str, str]
    fields: Mapping[str, str]
    """Descriptions of wrong fields by their path."""
    retry_seconds: float | None
    pushback_ms: str | None


async def refusal(call: Awaitable[object]) -> Refusal:
    """The error that the call ends with; fails the test when it succeeds."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    return read(caught.value)


def read(error: aio.AioRpcError) -> Refusal:
    """The error's details in one piece."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    found: dict[type[Message], Any] = dict.fromkeys(_MESSAGES)
    for detail in status.details:
        for kind in _MESSAGES:
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(detail.value)
    info, bad, retry = (found[kind] for kind in _MESSAGES)
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        fields={wrong.field: wrong.description for wrong in bad.field_violations} if bad else {},
        retry_seconds=retry.retry_delay.ToMicroseconds() / 1e6 if retry else None,
        pushback_ms=trailers.get("grpc-retry-pushback-ms"),
    )


def stored_blobs(server: RunningServer) -> set[str]:
    """Names of the stored blobs."""
    return {path.name for path in (server.data / "artifacts").iterdir() if path.is_file()}


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once it holds; the test's own timeout ends the wait for what never does."""
    while not holds():  # noqa: ASYNC110 (it happens in another process)
        await asyncio.sleep(0.01)


async def events_of(
    stub: Stub, request: pb.StreamProgressRequest
) -> list[pb.StreamProgressResponse]:
    """Every event of the stream, to its end."""
    return [event async for event in stub.StreamProgress(request)]


def receipt_of(generation: Generation) -> dict[str, Parameter]:
    """The parameters of the receipt by name."""
    return {parameter.name: parameter for parameter in generation.receipt.parameters}


def dispositions(generation: Generation) -> dict[str, str]:
    """How each parameter came about."""
    return {
        name: Disposition.Name(parameter.disposition).removeprefix("DISPOSITION_").lower()
        for name, parameter in receipt_of(generation).items()
    }


async def send_bytes(channel: aio.Channel, method: str, data: bytes) -> list[bytes]:
    """Send the bytes as the one request of the method, whatever they are; returns all answers."""
    call: Any = channel.stream_stream(f"/atelier.v1.GenerationService/{method}")
    return [answer async for answer in call(iter([data]), timeout=300)]
