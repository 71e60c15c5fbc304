"""Receives the request of a call: only once it is asked for, only while there is memory for it, and parses it.

gRPC's own handlers receive and parse a request before anything of ours runs. So every method is registered as one that
takes a stream, which is the same on the wire, and the message is read from that stream after the interceptors have
agreed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import DecodeError
from grpc import aio

from atelier_server.errors import (
    InvalidRequestError,
    RequestMemoryError,
    ServiceError,
    TooLargeError,
    Violation,
)
from atelier_server.rpc.interceptors.errors import AcceptedGeneration, convert_error
from atelier_server.rpc.message_size import MAX_STRUCTURED_BYTES, count_structured_bytes
from atelier_server.rpc.request_memory import Kind, RequestMemory
from atelier_server.shared_memory import Held

Context: TypeAlias = "aio.ServicerContext[Any, Any]"

_KINDS: Mapping[str, Kind] = {
    "UploadArtifact": Kind.UPLOAD,
    **dict.fromkeys(("Generate", "StreamProgress", "PlanGeneration"), Kind.TASK),
}
"""By method; all others are short."""
_PATIENCE_SECONDS = 10.0  # with a request that does not arrive while others wait for its memory
_LATER_SECONDS = 0.5  # after which it is looked again whether others wait by now
_CANCELLATION_SECONDS = (
    0.1  # in which gRPC tells of a call that was cancelled before it sent a request
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """How a method takes its requests."""

    method: str
    deserialize: Callable[[bytes], object]
    is_stream: bool
    """Whether it takes a stream of them."""
    max_bytes: int | None = None
    """Bytes that a request has at most, where that is told before it arrives."""

    def parse(self, data: bytes) -> object:
        """The request.

        Raises:
            TooLargeError: it has too much that must be taken apart.
            InvalidRequestError: it is not a message of this method.
        """
        if (
            len(data) > MAX_STRUCTURED_BYTES
            and count_structured_bytes(self.method, data) > MAX_STRUCTURED_BYTES
        ):
            raise TooLargeError(
                f"the request has more than {MAX_STRUCTURED_BYTES} bytes beside attachments and chunks; shorten its "
                "options"
            )
        try:
            return self.deserialize(data)
        except DecodeError:
            violation = Violation("request", "not a valid message for this method")
            raise InvalidRequestError([violation]) from None


class IncomingRequest:
    """The request of one call, or the stream of them."""

    __slots__ = (
        *("_context", "_ending", "_form", "_held", "_memory", "_stream", "_timer"),
        *("received_bytes", "request_id", "target"),
    )

    def __init__(self, form: RequestForm, context: Context, memory: RequestMemory) -> None:
        """Read nothing yet."""
        self._form, self._context, self._memory = form, context, memory
        self._held: Held | None = None
        self._stream: AsyncGenerator[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.received_bytes = 0
        """Size of what has come so far."""
        self.request_id = ""
        """The id that the request carries; empty if it has none, or until it has been received."""
        self.target = ""
        """What the request names: a generation, an artifact or an engine; likewise."""

    async def reserve(self, tenant: str) -> None:
        """Hold memory for a request that arrives before `receive` is called, and end the call if it does not arrive.

        Raises:
            RequestMemoryError: there is none.
        """
        await self._hold(tenant).take(self._count_bytes())
        self._start_timer()

    async def receive(self, tenant: str) -> object:
        """The request, or the stream of requests, of which each is received as it is asked for.

        Raises:
            ServiceError: there is no memory for it, it is missing, too large or not a message; from a stream later.
        """
        held = self._hold(tenant)
        if self._form.is_stream:
            self._stream = self._receive_all(held)
            return self._stream
        request = await self._receive_next(held)
        if request is None:
            await asyncio.sleep(_CANCELLATION_SECONDS)  # ends here if the call was cancelled
            raise InvalidRequestError([Violation("request", "is missing")])
        self.request_id, self.target = _find_request_id(request), _find_target(request)
        return request

    async def learn_names(self, tenant: str) -> None:
        """Receive the request for what it names alone, if that is not known yet and it is no stream."""
        if self._held is None and not self._form.is_stream:
            with suppress(ServiceError):
                await self.receive(tenant)
            self.let_go()

    def let_go(self) -> None:
        """Give back the memory: the request is no longer referenced."""
        if self._held is not None:
            self._held.shrink(0)

    async def aclose(self) -> None:
        """Receive nothing more, and let go."""
        if self._stream is not None:
            await self._stream.aclose()
        self._stop_timer()
        self.let_go()

    async def _receive_all(self, held: Held) -> AsyncGenerator[object]:
        while (request := await self._receive_next(held)) is not None:
            yield request
            del request
            held.shrink(0)

    async def _receive_next(self, held: Held) -> object:
        """The next message; None if there are no more."""
        if not held.size:  # else it is reserved
            await held.take(self._count_bytes())
            self._start_timer()
        try:
            data = await self._context.read()
        finally:
            self._stop_timer()
        if data is aio.EOF:
            held.shrink(0)
            return None
        self.received_bytes += len(data)
        held.shrink(len(data))
        return self._form.parse(data)

    def _count_bytes(self) -> int:
        """What a request takes while it arrives."""
        most = self._memory.message_bytes
        told = self._form.max_bytes
        return most if told is None else max(1, min(most, told))

    def _hold(self, tenant: str) -> Held:
        if self._held is None:
            self._held = self._memory.hold(tenant, _KINDS.get(self._form.method, Kind.SHORT))
        return self._held

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, self._lose_patience)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose_patience(self) -> None:
        """End the call, whose message does not arrive, if others wait for its memory; look again later if not."""
        loop = asyncio.get_running_loop()
        if self._memory.is_short:
            self._ending = loop.create_task(self._abort())
        else:
            self._timer = loop.call_later(_LATER_SECONDS, self._lose_patience)

    async def _abort(self) -> None:
        """End the call: its read ends with an AbortError. Cancelled instead, gRPC's core would still write into it."""
        status = convert_error(RequestMemoryError(), AcceptedGeneration())
        with suppress(aio.AbortError):
            await self._context.abort(status.code, status.message, status.trailers)


def _find_request_id(request: object) -> str:
    """The request's own id, or that of the request for a generation inside it."""
    return str(
        getattr(request, "request_id", "")
        or getattr(getattr(request, "generate", None), "request_id", "")
    )


def _find_target(request: object) -> str:
    """What the request names first: a generation, an artifact, an engine."""
    for name in ("generation_id", "artifact_id", "engine"):
        if found := getattr(request, name, ""):
            return str(found)
    return ""
