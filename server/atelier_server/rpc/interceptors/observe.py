"""Counts, times and logs every call."""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType

import grpc
from grpc import aio

from atelier_server.errors import GenerationFailedError, ServiceError
from atelier_server.metrics import (
    GRPC_HANDLED,
    GRPC_SECONDS,
    GRPC_STARTED,
    REJECTIONS,
    counter,
    histogram,
)
from atelier_server.rpc.interceptors.chain import Call, Context
from atelier_server.rpc.interceptors.errors import find_code

_log = logging.getLogger(__name__)


class CallObserver:
    """Record the call in the metrics and the log."""

    __slots__ = ("_call", "_context", "_start")

    def __init__(self, call: Call, context: Context) -> None:
        """Observe this call."""
        self._call, self._context, self._start = call, context, 0.0

    async def __aenter__(self) -> Call:
        counter(GRPC_STARTED, self._call.service, self._call.method).inc()
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
        histogram(GRPC_SECONDS, call.service, call.method).observe(seconds)
        _log.debug("call_finished", extra={"code": code.name, "seconds": round(seconds, 6)})


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
