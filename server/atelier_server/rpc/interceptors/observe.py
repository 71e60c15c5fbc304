"""Counts, times and logs every call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import grpc
from grpc import aio

from atelier_server.metrics import GRPC_HANDLED, GRPC_SECONDS, GRPC_STARTED
from atelier_server.rpc.interceptors.chain import Call, Context
from atelier_server.rpc.interceptors.errors import find_code

_log = logging.getLogger(__name__)


@asynccontextmanager
async def observe_call(call: Call, context: Context) -> AsyncGenerator[Call]:
    """Record the call in the metrics and the log."""
    GRPC_STARTED.labels(call.service, call.method).inc()
    start = time.perf_counter()
    code = grpc.StatusCode.OK
    try:
        yield call
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED  # its caller left, or stopped waiting
        if call.has_timed_out():
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        raise
    except aio.AbortError:  # the handler has set its status itself
        code = context.code()
        raise
    except Exception as error:
        code = find_code(error)
        raise
    finally:
        seconds = time.perf_counter() - start
        GRPC_HANDLED.labels(call.service, call.method, code.name).inc()
        GRPC_SECONDS.labels(call.service, call.method).observe(seconds)
        _log.debug(
            "call_finished",
            extra={"code": code.name, "seconds": round(seconds, 6)},
        )
