"""Converts every error of a call into a gRPC status with google.rpc details."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from atelier_server.errors import (
    CODES,
    BudgetExceededError,
    GenerationFailedError,
    InvalidRequestError,
    ServiceError,
    TenantQuotaError,
)

_log = logging.getLogger(__name__)
_DOMAIN = "atelier"
DETAILS = "grpc-status-details-bin"
"""The trailer that has the google.rpc.Status."""
_PUSHBACK = "grpc-retry-pushback-ms"
_MAX_PUSHBACK_SECONDS = 10.0
# Trailers must stay below the 8 KiB that clients accept. They contain the message twice: once with three
# characters for every byte that is not ASCII, once inside the details in base 64.
_MAX_MESSAGE_BYTES = 1500
_MAX_FIELD_BYTES = 100
_MAX_DESCRIPTION_BYTES = 200
_MAX_VIOLATIONS = 8


@dataclass(slots=True)
class AcceptedGeneration:
    """The generation that a call has made or attached to, for the details of its error; nothing until then."""

    generation_id: str = ""
    request_id: str = ""
    """The id under which the same request attaches to it; empty for a call that names the generation."""
    repeatable: bool = True
    """Whether the call as it is attaches to it again, instead of making another generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The gRPC status that a failed call ends with."""

    code: StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]


def find_code(error: Exception) -> StatusCode:
    """The code that a call ends with if it raises this error."""
    return CODES[error.reason] if isinstance(error, ServiceError) else StatusCode.INTERNAL


def convert_error(error: Exception, accepted: AcceptedGeneration) -> Status:
    """The status of a call that raised this error. Errors whose text is not for the caller are logged instead."""
    if not isinstance(error, ServiceError):
        _log.error("call_failed", exc_info=error)
        error = ServiceError("the server failed; its log has the reason")
    code = find_code(error)
    message = _truncate(str(error), _MAX_MESSAGE_BYTES)
    details: list[Any] = []
    for detail in _details(error, accepted):
        packed = Any()
        packed.Pack(detail)
        details.append(packed)
    status = status_pb2.Status(code=code.value[0], message=message, details=details)
    trailers: list[tuple[str, str | bytes]] = [(DETAILS, status.SerializeToString())]
    if (pushback := _pushback(error, accepted)) is not None:
        trailers.append((_PUSHBACK, pushback))
    return Status(code=code, message=message, trailers=tuple(trailers))


def _details(error: ServiceError, accepted: AcceptedGeneration) -> Iterator[Message]:
    metadata = dict(error.metadata)
    if accepted.generation_id:
        metadata["generation_id"] = accepted.generation_id
    if accepted.request_id:
        metadata["request_id"] = accepted.request_id
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=metadata)
    if isinstance(error, InvalidRequestError):
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=_truncate(violation.field, _MAX_FIELD_BYTES),
                    description=_truncate(violation.message, _MAX_DESCRIPTION_BYTES),
                )
                for violation in error.violations[:_MAX_VIOLATIONS]
            ]
        )
    if isinstance(error, BudgetExceededError):
        budget = error_details_pb2.QuotaFailure.Violation(
            subject="daily_budget", description=str(error)
        )
        yield error_details_pb2.QuotaFailure(violations=[budget])
    if isinstance(error, TenantQuotaError):
        quota = error_details_pb2.QuotaFailure.Violation(
            subject=f"tenant:{error.tenant}", description=str(error)
        )
        yield error_details_pb2.QuotaFailure(violations=[quota])
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMicroseconds(int(error.retry_after_seconds * 1e6))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def _truncate(text: str, max_bytes: int) -> str:
    """The text, or as much of its beginning as takes up `max_bytes` in a trailer."""
    size = 0
    for index, character in enumerate(text):
        size += 1 if " " <= character <= "~" else 3 * len(character.encode(errors="replace"))
        if size > max_bytes:
            return text[:index] + "..."
    return text


def _pushback(error: ServiceError, accepted: AcceptedGeneration) -> str | None:
    """Milliseconds until gRPC's retry policy may repeat the call.

    -1 if that would return the same failure, make a second generation, or have the caller wait for long without a word:
    RetryInfo tells it when to try again.
    """
    seconds = error.retry_after_seconds
    is_long = seconds is not None and seconds > _MAX_PUSHBACK_SECONDS
    if isinstance(error, GenerationFailedError) or not accepted.repeatable or is_long:
        return "-1"
    return None if seconds is None else str(int(seconds * 1000))
