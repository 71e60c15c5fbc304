"""Turns errors into gRPC statuses with google.rpc details, once for all calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from atelier_server.errors import (
    CODES,
    BudgetExceededError,
    GenerationFailedError,
    InvalidRequestError,
    ServiceError,
)

_DOMAIN = "atelier"
_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"
# Trailers must stay below the 8 KiB that clients accept, where the message stands twice: once with every byte
# that is not ASCII written as three, once with the details in base 64.
_MESSAGE_BYTES = 1500
_FIELD_BYTES = 100
_DESCRIPTION_BYTES = 200
_MOST_VIOLATIONS = 8


@dataclass(frozen=True, slots=True)
class Status:
    """What a failed call ends with."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def status_of(error: Exception) -> Status:
    """The status of an error; the texts of unknown errors are hidden."""
    if not isinstance(error, ServiceError):
        error = ServiceError("the server failed; its log has the reason")
    code = CODES[error.reason]
    message = _cut(str(error), _MESSAGE_BYTES)
    details: list[Any] = []
    for detail in _details(error):
        packed = Any()
        packed.Pack(detail)
        details.append(packed)
    status = status_pb2.Status(code=code.value[0], message=message, details=details)
    trailers: list[tuple[str, str | bytes]] = [(_DETAILS, status.SerializeToString())]
    if (pushback := _pushback(error)) is not None:
        trailers.append((_PUSHBACK, pushback))
    return Status(code=code, message=message, trailers=tuple(trailers))


def _details(error: ServiceError) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata)
    if isinstance(error, InvalidRequestError):
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_cut(wrong.field, _FIELD_BYTES),
                    description=_cut(wrong.message, _DESCRIPTION_BYTES),
                )
                for wrong in error.violations[:_MOST_VIOLATIONS]
            ]
        )
    if isinstance(error, BudgetExceededError):
        budget = error_details_pb2.QuotaFailure.Violation(
            subject="daily_budget", description=str(error)
        )
        yield error_details_pb2.QuotaFailure(violations=[budget])
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMicroseconds(int(error.retry_after_seconds * 1e6))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _cut(text: str, most: int) -> str:
    """The text, or as much of its beginning as takes up `most` bytes in a trailer."""
    size = 0
    for place, letter in enumerate(text):
        size += 1 if " " <= letter <= "~" else 3 * len(letter.encode(errors="replace"))
        if size > most:
            return text[:place] + "..."
    return text


def _pushback(error: ServiceError) -> str | None:
    """When a client library is to try again by itself: never, if the same request id would find the same end."""
    if isinstance(error, GenerationFailedError):
        return "-1"
    return None if error.retry_after_seconds is None else str(int(error.retry_after_seconds * 1000))
