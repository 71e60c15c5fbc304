"""Translates gRPC statuses and failures of generations into AtelierErrors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from atelier_client import errors
from atelier_client.enums import CancelCause, State
from atelier_client.errors import AtelierError, Violation
from atelier_client.results import Failure, Generation
from atelier_client.tls import explain_handshake, hint_at_encryption

CODES: Mapping[grpc.StatusCode, type[AtelierError]] = {
    grpc.StatusCode.CANCELLED: errors.GenerationCancelledError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.ConflictError,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessDeniedError,
    grpc.StatusCode.UNAUTHENTICATED: errors.AccessDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.QuotaError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.UnsupportedError,
    grpc.StatusCode.ABORTED: errors.ConflictError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnsupportedError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.InternalError,
}
"""Status code to error; a reason in REASONS takes precedence."""

REASONS: Mapping[str, type[AtelierError]] = {
    "CONTENT_FILTERED": errors.ContentFilteredError,
    "OUT_OF_MEMORY": errors.OutOfMemoryError,
    "ENGINE_FAILED": errors.GenerationFailedError,
    "MODEL_MISSING": errors.GenerationFailedError,
    "TASK_FAILED": errors.GenerationFailedError,
    "POISONED": errors.GenerationFailedError,
    "TOO_LARGE": errors.InvalidRequestError,
    "TOO_MANY_BYTES": errors.UnavailableError,
}
"""Reason to error, where several errors share a status code."""

_RESET = re.compile(r"RST_STREAM|GOAWAY|too[ _]many[ _]pings", re.IGNORECASE)
"""What gRPC writes about a stream or a connection that the other side closed, whatever the code."""
_UNKNOWN_CALL = (
    "the server does not know this call: it is older than this client, or it is not Atelier"
)
_NUMBERS = {code.value[0]: code for code in grpc.StatusCode}
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Details:
    reason: str = ""
    violations: tuple[Violation, ...] = ()
    retry_after_seconds: float | None = None


def error_from_rpc(
    error: grpc.RpcError, *, is_secure: bool = False, endpoint: tuple[str, int] | None = None
) -> AtelierError:
    """The error of a failed call to a host and port, over TLS or not; an unknown status is an InternalError."""
    call = cast("grpc.Call", error)
    details = _read_details(call)
    message = call.details() or call.code().name
    if call.code() is grpc.StatusCode.UNIMPLEMENTED and not details.reason:
        message = f"{_UNKNOWN_CALL}: {message}"
    failure = _build_error(_error_class(call.code(), details.reason), message, details)
    if not details.reason and _is_connection_lost(call.code(), message):
        failure = _build_unreachable(message, is_secure=is_secure, endpoint=endpoint)
    failure.__cause__ = error
    return failure


def _build_unreachable(
    message: str, *, is_secure: bool, endpoint: tuple[str, int] | None
) -> AtelierError:
    """A TlsError where another attempt cannot help; else what may be wrong stands in the text."""
    if explanation := explain_handshake(message):
        return errors.TlsError(f"cannot reach the server: {explanation}")
    hint = hint_at_encryption(message, is_secure=is_secure, endpoint=endpoint)
    return errors.ServerUnreachableError(f"cannot reach the server: {message}{hint}")


def error_from_failure(failure: Failure, generation_id: str) -> AtelierError:
    """The error of a failed generation; an internal error of the engine is a GenerationFailedError."""
    kind = _error_class(_NUMBERS.get(failure.code, grpc.StatusCode.UNKNOWN), failure.reason)
    if kind is errors.InternalError:
        kind = errors.GenerationFailedError
    return _build_error(kind, failure.message, _Details(reason=failure.reason), generation_id)


def _is_connection_lost(code: grpc.StatusCode, message: str) -> bool:
    """Whether a status that is not the server's own says that the connection or the stream broke.

    Proxies reset streams with any code, and answer by themselves with HTTP statuses, which gRPC translates into
    UNAVAILABLE, UNKNOWN or INTERNAL. gRPC's library answers a call that arrives as the server stops with CANCELLED.
    The server itself gives a reason with each of these.
    """
    match code:
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.UNKNOWN | grpc.StatusCode.CANCELLED:
            return True
        case grpc.StatusCode.INTERNAL:
            return "serializ" not in message  # a message that this client cannot read
        case _:
            return _RESET.search(message) is not None


def _error_class(code: grpc.StatusCode, reason: str) -> type[AtelierError]:
    return REASONS.get(reason) or CODES.get(code, errors.InternalError)


def _build_error(
    kind: type[AtelierError], message: str, details: _Details, generation_id: str = ""
) -> AtelierError:
    if issubclass(kind, errors.InvalidRequestError):
        return kind(
            message,
            reason=details.reason,
            generation_id=generation_id,
            violations=details.violations,
        )
    if issubclass(kind, errors.UnavailableError):
        return kind(
            message,
            reason=details.reason,
            generation_id=generation_id,
            retry_after_seconds=details.retry_after_seconds,
        )
    return kind(message, reason=details.reason, generation_id=generation_id)


def _read_details(call: grpc.Call) -> _Details:
    status = _read_status(call)
    if status is None:
        return _Details()
    info = _find_detail(status, error_details_pb2.ErrorInfo)
    bad = _find_detail(status, error_details_pb2.BadRequest)
    retry = _find_detail(status, error_details_pb2.RetryInfo)
    return _Details(
        reason=info.reason if info else "",
        violations=tuple(
            Violation(field=violation.field, message=violation.description)
            for violation in (bad.field_violations if bad else ())
        ),
        retry_after_seconds=(
            retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry else None
        ),
    )


def _read_status(call: grpc.Call) -> status_pb2.Status | None:
    """The google.rpc.Status in the trailers; None if a proxy changed the status of the call."""
    try:
        return rpc_status.from_call(call)
    except (ValueError, DecodeError):
        return None


def _find_detail(status: status_pb2.Status, kind: type[_M]) -> _M | None:
    message = kind()
    try:
        found = any(detail.Unpack(message) for detail in status.details)
    except DecodeError:
        return None
    return message if found else None


def raise_for_state(generation: Generation) -> Generation:
    """Return the generation, unless it failed or was cancelled.

    Raises:
        AtelierError: the error of its failure; GenerationCancelledError if it was cancelled.
    """
    if generation.state is State.CANCELLED:
        raise errors.GenerationCancelledError(
            f"the generation was cancelled: {_explain_cancellation(generation)}",
            reason="CANCELLED",
            generation_id=generation.id,
        )
    if generation.failure is not None:
        raise error_from_failure(generation.failure, generation.id)
    return generation


def _explain_cancellation(generation: Generation) -> str:
    outcome = generation.cancel_outcome.replace("_", " ")
    if generation.cancel_cause is not CancelCause.QUEUE_CLEARED:
        return outcome
    reason = f" ({generation.cancel_reason})" if generation.cancel_reason else ""
    return f"{outcome}; its queue was cleared{reason}"
