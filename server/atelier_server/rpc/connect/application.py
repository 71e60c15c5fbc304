"""The generation service as an ASGI application that speaks Connect and gRPC-Web.

The library connectrpc reads and writes the protocols. Each call passes the same interceptors as over gRPC, before its
body is read, and reaches the same service object.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from atelier.v1 import generation_service_pb2
from atelier_server.rpc.connect.codecs import IncomingMessage, PassingCodec, encode
from atelier_server.rpc.connect.context import Done, HttpContext, LibraryContext, done_callbacks
from atelier_server.rpc.connect.statuses import (
    explain_absence,
    explain_expiry,
    find_cause,
    to_connect_error,
)
from atelier_server.rpc.interceptors.chain import Call, InterceptorChain, receive
from atelier_server.rpc.interceptors.errors import AcceptedGeneration, convert_error
from atelier_server.rpc.interceptors.incoming import RequestForm
from atelier_server.rpc.service import GenerationService

_SERVICE = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
_PART_BYTES = 2**18
_IDENTITY = "identity"
_ENCODINGS = {
    "content-encoding": "accept-encoding",
    "connect-content-encoding": "connect-accept-encoding",
    "grpc-encoding": "grpc-accept-encoding",
}
"""Headers that name the compression of a request, and those of answers that name what there is."""
_NO_CONTEXT: Any = None  # callbacks are given the context by gRPC, and use none
PREFIX = f"/{_SERVICE.full_name}/"
"""Path of every method, but for its name."""
METHODS: Mapping[str, MethodDescriptor] = dict(_SERVICE.methods_by_name)
"""The methods of the service, by their names."""


@dataclass(frozen=True, slots=True)
class _AdmittedCall:
    """A call that the interceptors have let in."""

    call: Call
    context: HttpContext
    accepted: AcceptedGeneration
    exits: AsyncExitStack
    as_json: bool


_admitted: ContextVar[_AdmittedCall] = ContextVar("admitted")


class ConnectApplication(ConnectASGIApplication[GenerationService]):
    """The service, at the paths of its methods."""

    def __init__(
        self, service: GenerationService, interceptors: InterceptorChain, max_message_bytes: int
    ) -> None:
        """Answer with this service; reject messages of more bytes."""
        super().__init__(
            service=service,
            endpoints=_make_endpoints,
            interceptors=[_Admission(interceptors, max_message_bytes)],
            read_max_bytes=max_message_bytes,
            compressions=(),  # media is compressed already, and it would be done on the event loop
            codecs=(PassingCodec("proto"), PassingCodec("json")),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 (ASGI's)
        """Answer one call, and tell when the answer has left."""
        callbacks: list[Done] = []
        done_callbacks.set(callbacks)
        try:
            await super().__call__(scope, receive, partial(_send_in_parts, send))
        finally:
            for callback in callbacks:
                callback(_NO_CONTEXT)

    @property
    def path(self) -> str:
        """Where the methods are."""
        return PREFIX.rstrip("/")


@dataclass(frozen=True, slots=True)
class _Admission:
    """Passes each call through our interceptors, before its body is read; the library calls it."""

    interceptors: InterceptorChain
    max_message_bytes: int

    async def on_start(self, context: LibraryContext) -> _AdmittedCall:
        """Let the call in.

        Raises:
            ConnectError: it is refused.
        """
        method = METHODS[context.method.name]
        as_json = "json" in context.request_headers.get("content-type", "").lower()
        kind = GetMessageClass(method.input_type)
        http = HttpContext(context, kind, as_json=as_json)
        form = RequestForm(
            method=method.name,
            deserialize=kind.FromString,
            is_stream=method.client_streaming,
            max_bytes=_find_length(context),
        )
        _refuse_compression(context)
        if method.server_streaming:  # nginx would keep events until it has a page of them
            context.response_headers["x-accel-buffering"] = "no"
        accepted = AcceptedGeneration()
        try:
            _refuse_expired(http)
            async with AsyncExitStack() as stack:
                admission = self.interceptors.admit(
                    _SERVICE.full_name, form, http.as_grpc(), accepted
                )
                call = await stack.enter_async_context(admission)
                await stack.enter_async_context(aclosing(call.request))
                if not form.is_stream:
                    await call.request.reserve(call.caller.tenant)
                admitted = _AdmittedCall(call, http, accepted, stack.pop_all(), as_json)
        except Exception as error:
            raise to_connect_error(convert_error(error, accepted), context) from error
        _admitted.set(admitted)
        return admitted

    async def on_end(
        self, admitted: _AdmittedCall, context: LibraryContext, error: Exception | None, /
    ) -> None:
        """Let the interceptors see how the call has ended.

        Raises:
            ConnectError: what the caller is answered instead of `error`.
        """
        cause = None if error is None else find_cause(error, self.max_message_bytes)
        try:
            await admitted.exits.__aexit__(
                type(cause) if cause is not None else None,
                cause,
                cause.__traceback__ if cause is not None else None,
            )
        except Exception as changed:  # noqa: BLE001 (every error becomes a status)
            cause = changed
        if admitted.context.ended is not None:
            raise to_connect_error(admitted.context.ended, context)
        if error is not None and isinstance(cause, asyncio.CancelledError):
            cause = explain_absence(error) or error
        if isinstance(cause, Exception) and not isinstance(cause, ConnectError):
            raise to_connect_error(convert_error(cause, admitted.accepted), context)


def _find_length(context: LibraryContext) -> int | None:
    """Bytes of the body, as its head tells."""
    told = context.request_headers.get("content-length", "")
    return int(told) if told.isdecimal() else None


def _refuse_expired(context: HttpContext) -> None:
    """Refuse a call that came with a deadline which has passed; 0 milliseconds is one.

    Raises:
        CallTimeoutError: it has.
    """
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise explain_expiry()


def _refuse_compression(context: LibraryContext) -> None:
    """Refuse a compressed request: its size, for which memory is held, is not known before it is expanded.

    Raises:
        ConnectError: UNIMPLEMENTED, as the protocol says.
    """
    for name, accepts in _ENCODINGS.items():
        encoding = context.request_headers.get(name) or _IDENTITY
        if encoding != _IDENTITY:
            context.response_headers[accepts] = _IDENTITY
            raise ConnectError(
                Code.UNIMPLEMENTED,
                f"{name} {encoding!r} is not supported; send requests uncompressed ({_IDENTITY})",
            )


def _make_endpoints(
    service: GenerationService,
) -> dict[str, Any]:  # a union that the library does not name
    return {PREFIX + name: _make_endpoint(service, method) for name, method in METHODS.items()}


def _make_endpoint(service: GenerationService, method: MethodDescriptor) -> Endpoint[Any, Any]:
    """What the library calls for a method once its request has arrived, or begins to."""
    behavior = getattr(service, method.name)
    kind = GetMessageClass(method.output_type)

    async def answer(message: IncomingMessage, _: LibraryContext) -> bytes:
        return await answer_stream(_deliver_one(message), _)

    async def answer_stream(messages: AsyncIterator[IncomingMessage], _: LibraryContext) -> bytes:
        admitted = _take_in(messages)
        call = admitted.call
        # No name keeps the request: it is gone when the behaviour lets go of it.
        response = await behavior(await receive(call), admitted.context)
        await call.request.aclose()
        data = await encode(response, kind, as_json=admitted.as_json)
        return (await call.answer.send(call.caller.tenant, data)).data

    async def follow(message: IncomingMessage, _: LibraryContext) -> AsyncGenerator[bytes]:
        admitted = _take_in(_deliver_one(message))
        call = admitted.call
        async with aclosing(behavior(await receive(call), admitted.context)) as responses:
            async for response in responses:
                data = await encode(response, kind, as_json=admitted.as_json)
                yield (await call.answer.send_next(call.caller.tenant, data)).data
                call.answer.let_go()

    if method.server_streaming:
        return Endpoint.server_stream(_describe(method, StreamType.SERVER_STREAM), follow)
    if method.client_streaming:
        return Endpoint.client_stream(_describe(method, StreamType.CLIENT_STREAM), answer_stream)
    return Endpoint.unary(_describe(method, StreamType.UNARY), answer)


def _take_in(messages: AsyncIterator[IncomingMessage]) -> _AdmittedCall:
    admitted = _admitted.get()
    admitted.context.deliver(messages)
    return admitted


async def _send_in_parts(send: Callable[[Any], Awaitable[None]], message: Any) -> None:  # noqa: ANN401 (ASGI's)
    """Send the message; a large body in parts, each of which waits until most of what was sent before has left."""
    body, more = message.get("body", b""), message.get("more_body", False)
    if len(body) <= _PART_BYTES:
        await send(message)
        return
    view = memoryview(body)
    for start in range(0, len(body), _PART_BYTES):
        part = bytes(view[start : start + _PART_BYTES])
        await send({**message, "body": part, "more_body": more or start + _PART_BYTES < len(body)})


async def _deliver_one(message: IncomingMessage) -> AsyncGenerator[IncomingMessage]:
    yield message


def _describe(method: MethodDescriptor, kind: StreamType) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=method.name,
        service_name=_SERVICE.full_name,
        input=IncomingMessage,
        output=bytes,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )
