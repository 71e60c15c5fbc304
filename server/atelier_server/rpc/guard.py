"""Stands around every call: counts it, times it, logs it, and turns what it raises into a status."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from atelier_server.errors import InvalidRequestError, ServiceError, Violation
from atelier_server.metrics import GRPC_HANDLED, GRPC_SECONDS, GRPC_STARTED
from atelier_server.rpc.status import Status, status_of

_log = logging.getLogger(__name__)

if TYPE_CHECKING:  # generic in the stubs alone
    Context = aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]


@dataclass(slots=True)
class _Call:
    service: str
    method: str
    code: grpc.StatusCode = grpc.StatusCode.OK


class Guard(aio.ServerInterceptor):
    """Wraps every method of every service on the server."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        _, service, method = str(handler_call_details.method).split("/", 2)
        return _guarded(handler, service, method)


def _guarded(handler: Handler, service: str, method: str) -> Handler:
    """The same handler with the guard around its one behaviour; responses come one by one or as a stream."""
    if handler.response_streaming:
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_stream_rpc_method_handler
        )
        behaviour: Any = _stream_guard(inner, service, method)
    else:
        inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler
            if handler.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        behaviour = _unary_guard(inner, service, method)
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer
        and partial(_parsed, handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


def _unary_guard(inner: Any, service: str, method: str) -> Any:  # noqa: ANN401 (any message in, any message out)
    async def guarded(request: object, context: Context) -> object:
        with _observed(service, method) as call:
            try:
                return await inner(_well_formed(request), context)
            except Exception as error:  # noqa: BLE001 (every error becomes a status)
                failure = _failure(call, context, error)
        return await _abort(context, failure)

    return guarded


def _stream_guard(inner: Any, service: str, method: str) -> Any:  # noqa: ANN401 (any message in, any message out)
    if not inspect.isasyncgenfunction(inner):
        return _reader_writer_guard(inner, service, method)

    async def guarded(request: object, context: Context) -> AsyncGenerator[object]:
        with _observed(service, method) as call:
            try:
                async with aclosing(inner(_well_formed(request), context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:  # noqa: BLE001 (every error becomes a status)
                failure = _failure(call, context, error)
            else:
                return
        await _abort(context, failure)

    return guarded


def _reader_writer_guard(inner: Any, service: str, method: str) -> Any:  # noqa: ANN401 (any message in, any message out)
    """For services of gRPC itself (health), whose streams write through the context."""

    async def guarded(request: object, context: Context) -> None:
        with _observed(service, method) as call:
            try:
                await inner(_well_formed(request), context)
            except Exception as error:  # noqa: BLE001 (every error becomes a status)
                failure = _failure(call, context, error)
            else:
                return
        await _abort(context, failure)

    return guarded


class _Malformed:
    """Stands for a request whose bytes are no such message."""


def _parsed(parse: Callable[[bytes], object], data: bytes) -> object:
    """The request, or a _Malformed: what a parser raises ends a call outside the guard, as UNKNOWN."""
    try:
        return parse(data)
    except DecodeError:
        return _Malformed()


def _well_formed(request: object) -> object:
    """The request, or the stream of requests, all of which are what they should be.

    Raises:
        InvalidRequestError: one is not; from a stream when its turn comes.
    """
    if isinstance(request, _Malformed):
        raise InvalidRequestError([Violation("request", "its bytes are no message of this call")])
    return _all_well_formed(request) if isinstance(request, AsyncIterable) else request


async def _all_well_formed(requests: AsyncIterable[object]) -> AsyncGenerator[object]:
    async for request in requests:
        yield _well_formed(request)


@contextmanager
def _observed(service: str, method: str) -> Generator[_Call]:
    call = _Call(service, method)
    GRPC_STARTED.labels(service, method).inc()
    start = time.perf_counter()
    try:
        yield call
    except (asyncio.CancelledError, GeneratorExit):
        call.code = grpc.StatusCode.CANCELLED
        raise
    finally:
        seconds = time.perf_counter() - start
        GRPC_HANDLED.labels(service, method, call.code.name).inc()
        GRPC_SECONDS.labels(service, method).observe(seconds)
        _log.debug("%s/%s %s in %.1f ms", service, method, call.code.name, seconds * 1000)


def _failure(call: _Call, context: Context, error: Exception) -> Status | aio.AbortError:
    """How the call ends. It is told to the caller after the call was counted, not before."""
    if isinstance(error, aio.AbortError):  # the handler has set its status itself
        call.code = context.code()
        return error
    if not isinstance(error, ServiceError):
        _log.error("%s/%s failed", call.service, call.method, exc_info=error)
    status = status_of(error)
    call.code = status.code
    return status


async def _abort(context: Context, failure: Status | aio.AbortError) -> NoReturn:
    if isinstance(failure, aio.AbortError):
        raise failure
    await context.abort(failure.code, failure.message, failure.trailers)
