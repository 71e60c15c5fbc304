"""Converts between our errors and those of the library connectrpc."""

from __future__ import annotations

import asyncio

import grpc
from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from google.rpc import status_pb2
from protobuf.wkt import Any

from atelier_server.errors import (
    CallTimeoutError,
    InvalidRequestError,
    ServiceError,
    TooLargeError,
    Violation,
)
from atelier_server.rpc.connect.context import LibraryContext
from atelier_server.rpc.interceptors.errors import DETAILS, Status

_NAMES = {grpc.StatusCode.CANCELLED: Code.CANCELED}  # American in Connect
_GONE = frozenset({Code.CANCELED, Code.DEADLINE_EXCEEDED})
_WRONG = frozenset({Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.INTERNAL})


def to_connect_error(status: Status, context: LibraryContext) -> ConnectError:
    """The error that sends this status; what else stands in its trailers goes into those of the context."""
    details: list[ErrorDetail] = []
    for key, value in status.trailers:
        if key == DETAILS and isinstance(value, bytes):
            packed = status_pb2.Status.FromString(value).details
            details = [ErrorDetail(Any(type_url=one.type_url, value=one.value)) for one in packed]
        else:
            context.response_trailers[key] = str(value)
    code = _NAMES.get(status.code) or Code[status.code.name]
    return ConnectError(code, status.message, details)


def find_cause(error: Exception, max_message_bytes: int) -> BaseException:
    """What a call has ended with: our own error, or ours for what the library has found wrong.

    CancelledError where the caller has left or no longer waits, as a handler of gRPC would see it.
    """
    if not isinstance(error, ConnectError):
        return error
    if error.code in _GONE:
        return asyncio.CancelledError()
    if error.code is Code.RESOURCE_EXHAUSTED:
        return TooLargeError(f"a request message may have at most {max_message_bytes} bytes")
    if error.code in _WRONG:
        return InvalidRequestError([Violation("request", error.message)])
    return error


def explain_absence(error: Exception) -> ServiceError | None:
    """What to answer a call whose deadline has passed; None where the caller has left."""
    expired = isinstance(error, ConnectError) and error.code is Code.DEADLINE_EXCEEDED
    return explain_expiry() if expired else None


def explain_expiry() -> ServiceError:
    """What to answer a call whose deadline has passed."""
    return CallTimeoutError("the deadline of the call has passed")
