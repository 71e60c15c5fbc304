"""Keeps the status of an upload that the server refuses, which grpc.aio may replace by an error of its own.

A message that grpc.aio is sending when the status arrives fails, and then the call has the status INTERNAL, whatever
the server said: `findings/grpc-aio-loses-the-status-of-a-refused-upload.sh`.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

_FAILED_SEND = "Internal error from Core"
"""What grpc.aio says then. Source: grpcio 1.85.1, _cython/_cygrpc/aio/call.pyx.pxi, set_internal_error."""
_R = TypeVar("_R")


async def finish_upload(call: grpc.aio.StreamUnaryCall[Any, Any]) -> Any:  # noqa: ANN401 - a message of gRPC
    """The answer to an upload that has just been started.

    Raises:
        grpc.aio.AioRpcError: the status that the server sent, if it sent one.
    """
    kept: list[grpc.aio.AioRpcError] = []

    def keep(_: object) -> None:  # for every status of the call, also for one that replaces another
        found = _read_status(call)
        if not _is_made_up(found):
            kept.append(found)

    call.add_done_callback(keep)
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if kept and _is_made_up(error):
            raise kept[-1] from error
        raise


def _read_status(call: grpc.aio.StreamUnaryCall[Any, Any]) -> grpc.aio.AioRpcError:
    """The status that the call has."""
    return grpc.aio.AioRpcError(
        _finish(call.code()),
        _finish(call.initial_metadata()),
        _finish(call.trailing_metadata()),
        details=_finish(call.details()),
    )


def _is_made_up(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _FAILED_SEND


def _finish(coroutine: Coroutine[object, object, _R]) -> _R:
    """What the coroutine returns; it waits for nothing, since the call has a status."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _R = end.value
        return result
    coroutine.close()
    raise RuntimeError("the call has no status yet")
