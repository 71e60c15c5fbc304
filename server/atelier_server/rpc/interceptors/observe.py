"""Counts, times and logs every call."""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType

import grpc
from grpc import aio

from atelier_server.clock import current_timestamp
from atelier_server.errors import GenerationFailedError, ServiceError
from atelier_server.metrics import (
    CALL_RECEIVED_BYTES,
    CALL_SECONDS,
    CALL_SENT_BYTES,
    CALLS_STARTED,
    GRPC_HANDLED,
    GRPC_SECONDS,
    GRPC_STARTED,
    REJECTIONS,
    counter,
    histogram,
)
from atelier_server.rpc.interceptors.chain import Call, Context
from atelier_server.rpc.interceptors.errors import find_code
from atelier_server.tracing.exporter import find_exemplar, find_exporter
from atelier_server.tracing.spans import Span, Value, find_generation_span_id
from atelier_server.tracing.trace_context import find_trace

_log = logging.getLogger(__name__)


class CallObserver:
    """Record the call in the metrics and the log."""

    __slots__ = ("_call", "_context", "_start")

    def __init__(self, call: Call, context: Context) -> None:
        """Observe this call."""
        self._call, self._context, self._start = call, context, 0.0

    async def __aenter__(self) -> Call:
        call = self._call
        counter(GRPC_STARTED, call.service, call.method).inc()
        counter(CALLS_STARTED, f"{call.service}/{call.method}").inc()
        self._start = time.perf_counter()
        return self._call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        call, seconds = self._call, time.perf_counter() - self._start
        code = find_end(error, call, self._context)
        counter(GRPC_HANDLED, call.service, call.method, code.name).inc()
        if isinstance(error, ServiceError) and not isinstance(error, GenerationFailedError):
            counter(REJECTIONS, error.reason).inc()
        generation, exemplar = call.accepted.generation_id, None
        if generation or call.trace_context:  # else it belongs to no trace
            exemplar = find_exemplar(call.trace_context, generation)
        _measure(call, code, seconds, exemplar)
        if exemplar is not None and (exporter := find_exporter()) is not None:
            exporter.export([_build_span(call, code, seconds)])
        _log.debug("call_finished", extra={"code": code.name, "seconds": round(seconds, 6)})


def _measure(
    call: Call, code: grpc.StatusCode, seconds: float, exemplar: dict[str, str] | None
) -> None:
    """Time and weigh a call that has just ended."""
    histogram(GRPC_SECONDS, call.service, call.method).observe(seconds, exemplar)
    labels = (f"{call.service}/{call.method}", code.name)
    histogram(CALL_SECONDS, *labels).observe(seconds, exemplar)
    histogram(CALL_SENT_BYTES, *labels).observe(call.answer.sent_bytes)
    histogram(CALL_RECEIVED_BYTES, *labels).observe(call.request.received_bytes)


def _build_span(call: Call, code: grpc.StatusCode, seconds: float) -> Span:
    """The span of a call that has just ended, in the trace of its caller or of its generation."""
    generation = call.accepted.generation_id
    trace = find_trace(call.trace_context, generation)
    whole = find_generation_span_id(generation) if generation else 0
    ended = current_timestamp().ToNanoseconds()
    attributes: dict[str, Value] = {
        "rpc.system": "grpc",
        "rpc.service": call.service,
        "rpc.method": call.method,
        "rpc.grpc.status_code": int(code.value[0]),
    }
    if generation:
        attributes["atelier.generation"] = generation
    return Span(
        name=f"{call.service}/{call.method}",
        trace=trace,
        parent_id=trace.caller_span_id or whole,
        start_ns=ended - int(seconds * 1e9),
        end_ns=ended,
        kind="server",
        attributes=attributes,
        error="" if code is grpc.StatusCode.OK else code.name,
    )


def find_end(error: BaseException | None, call: Call, context: Context) -> grpc.StatusCode:
    """The code that a call has ended with, which raised this error, or none."""
    match error:
        case None:
            return grpc.StatusCode.OK
        case aio.AbortError():  # the handler has set its status itself
            return context.code()
        case asyncio.CancelledError() | GeneratorExit() if call.has_timed_out():
            return grpc.StatusCode.DEADLINE_EXCEEDED
        case Exception():
            return find_code(error)
        case _:  # its caller left, or stopped waiting
            return grpc.StatusCode.CANCELLED
