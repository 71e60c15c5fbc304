"""The errors of the server, and the one table from reasons to gRPC codes.

ServiceError                   reason                 answered to callers; its text says what to change
├── InvalidRequestError        INVALID_REQUEST        fields are wrong; names them
├── UnknownEngineError         UNKNOWN_ENGINE         no such engine; names those there are
├── NotFoundError              NOT_FOUND              no such generation or artifact, or another caller's
├── ConflictError              REQUEST_ID_REUSED      the request id was used for another task
├── UnsupportedTaskError       UNSUPPORTED            the engine lacks a feature; names engines that have it
├── QueueFullError             QUEUE_FULL             the engine's queue is full
├── NotReadyError              ENGINE_UNAVAILABLE     the engine is loading or unavailable
├── DrainingError              DRAINING               the server is shutting down
├── BudgetExceededError        BUDGET_EXCEEDED        the engine's daily budget is exhausted
├── DeadlineUnattainableError  DEADLINE_UNATTAINABLE  the generation would end after its deadline
├── CallTimeoutError           DEADLINE_EXCEEDED      the caller's deadline has passed; said over HTTP alone
├── StorageError               STORAGE_UNAVAILABLE    the disk is full, or cannot be written or read
├── TooLargeError              TOO_LARGE              more bytes than the limit
├── RequestMemoryError         TOO_MANY_BYTES         requests that arrive take all memory there is for them
├── AnswerMemoryError          TOO_MANY_BYTES         answers that are not taken take all memory there is for them
├── TooManyCallsError          TOO_MANY_CALLS         as many long calls on one connection as may be
├── UnauthenticatedError       UNAUTHENTICATED        nothing proves who calls
├── PermissionDeniedError      PERMISSION_DENIED      the caller lacks a scope
├── TenantQuotaError           TENANT_QUOTA           the tenant has as much as it may
│   └── QueuedQuotaError                              as much of it waits or runs as may
├── AuthenticationUnavailableError  AUTHENTICATION_UNAVAILABLE  the identity provider does not answer
├── DataLossError              ARTIFACT_CORRUPT       stored bytes are missing or damaged
└── GenerationFailedError      that of the failure    the generation that a call waited for failed

StartupError                                          the process cannot serve; its text says what to change
├── DatabaseUnusableError                             the database is damaged, or of a newer version
├── DataDirectoryUnusableError                        the data directory cannot be created or written
├── DataDirectoryInUseError                           another server uses the data directory
├── MissingPackageError                               packages of an extra are not installed
└── AddressInUseError                                 the address cannot be listened on
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc import StatusCode

from atelier.v1.generation_pb2 import CancelCause, Failure, Generation, State
from atelier_engines.errors import EngineError
from atelier_engines.suggestions import suggest

CODES: Mapping[str, StatusCode] = {
    "INVALID_REQUEST": StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_ENGINE": StatusCode.NOT_FOUND,
    "NOT_FOUND": StatusCode.NOT_FOUND,
    "REQUEST_ID_REUSED": StatusCode.ALREADY_EXISTS,
    "UNSUPPORTED": StatusCode.FAILED_PRECONDITION,
    "QUEUE_FULL": StatusCode.UNAVAILABLE,
    "DRAINING": StatusCode.UNAVAILABLE,
    "BUDGET_EXCEEDED": StatusCode.RESOURCE_EXHAUSTED,
    "DEADLINE_UNATTAINABLE": StatusCode.DEADLINE_EXCEEDED,
    "DEADLINE_EXCEEDED": StatusCode.DEADLINE_EXCEEDED,
    "STORAGE_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "TOO_LARGE": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_BYTES": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_CALLS": StatusCode.RESOURCE_EXHAUSTED,
    "UNAUTHENTICATED": StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": StatusCode.PERMISSION_DENIED,
    "TENANT_QUOTA": StatusCode.RESOURCE_EXHAUSTED,
    "AUTHENTICATION_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "ARTIFACT_CORRUPT": StatusCode.DATA_LOSS,
    "CANCELLED": StatusCode.CANCELLED,
    "POISONED": StatusCode.ABORTED,
    "INTERNAL": StatusCode.INTERNAL,
    # What engines fail with (atelier_engines.errors.Reason).
    "INVALID_TASK": StatusCode.INVALID_ARGUMENT,
    "CONTENT_FILTERED": StatusCode.FAILED_PRECONDITION,
    "TASK_FAILED": StatusCode.FAILED_PRECONDITION,
    "OUT_OF_MEMORY": StatusCode.RESOURCE_EXHAUSTED,
    "MODEL_MISSING": StatusCode.FAILED_PRECONDITION,
    "ENGINE_QUOTA": StatusCode.RESOURCE_EXHAUSTED,
    "ENGINE_UNAVAILABLE": StatusCode.UNAVAILABLE,
    "ENGINE_UNCERTAIN": StatusCode.ABORTED,
    "ENGINE_TIMEOUT": StatusCode.DEADLINE_EXCEEDED,
    "ENGINE_FAILED": StatusCode.ABORTED,
}
"""The gRPC code of every reason."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request that is wrong."""

    field: str
    """Path of the field in the request, such as image.controls[0].strength."""
    message: str
    """What its value must be."""


class ServiceError(Exception):
    """Base of the errors that callers are answered with; the text says what to change."""

    reason: str = "INTERNAL"
    retry_after_seconds: float | None = None
    """Time after which the same request may succeed; None when it will not."""
    metadata: Mapping[str, str] = {}
    """Machine-readable details, sent in ErrorInfo."""


class InvalidRequestError(ServiceError):
    """Fields of the request are wrong."""

    reason = "INVALID_REQUEST"

    def __init__(
        self,
        violations: Sequence[Violation],
        engine: str = "",
        others: Sequence[str] = (),
        hint: str = "",
    ) -> None:
        """List the violations, at least one: those of `engine`, where `others` are the engines that can do the task.

        `hint` says more where there are no others.
        """
        text = "; ".join(f"{wrong.field}: {wrong.message}" for wrong in violations)
        if others:
            text += f" (engine {engine!r}); engines that can do it: {', '.join(others)}"
            self.metadata = {"engine": engine, "engines": ",".join(others)}
        elif hint:
            text += f" (engine {engine!r}); {hint}"
        super().__init__(text)
        self.violations = tuple(violations)


class UnknownEngineError(ServiceError):
    """No engine has that name."""

    reason = "UNKNOWN_ENGINE"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        """List the engines that exist, and name the most similar one."""
        super().__init__(
            f"no engine {name!r}; there are {', '.join(known) or 'none'}{suggest(name, known)}"
        )


class NotFoundError(ServiceError):
    """No such generation or artifact, or it is another caller's."""

    reason = "NOT_FOUND"


class ConflictError(ServiceError):
    """The request id was used for another task."""

    reason = "REQUEST_ID_REUSED"


class UnsupportedTaskError(ServiceError):
    """The engine lacks a feature that the task needs."""

    reason = "UNSUPPORTED"


def bound_retry_delay(seconds: float) -> float:
    """The time for a caller to wait before it tries again: 1 s to 5 min, whatever was derived."""
    return min(max(seconds, 1.0), 300.0)


class QueueFullError(ServiceError):
    """The engine's queue is full."""

    reason = "QUEUE_FULL"
    retry_after_seconds = 1.0


class NotReadyError(ServiceError):
    """The engine is loading or unavailable."""

    reason = "ENGINE_UNAVAILABLE"

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        """Include the time after which it may be ready."""
        super().__init__(message)
        self.retry_after_seconds = bound_retry_delay(retry_after_seconds)


class DrainingError(ServiceError):
    """The server is shutting down."""

    reason = "DRAINING"
    retry_after_seconds = 1.0


class BudgetExceededError(ServiceError):
    """The engine's daily budget is exhausted."""

    reason = "BUDGET_EXCEEDED"


class DeadlineUnattainableError(ServiceError):
    """The generation would end after its deadline."""

    reason = "DEADLINE_UNATTAINABLE"


class CallTimeoutError(ServiceError):
    """The deadline of the call has passed. Over gRPC, the libraries of both sides say so themselves."""

    reason = "DEADLINE_EXCEEDED"


class TooLargeError(ServiceError):
    """More bytes than the limit."""

    reason = "TOO_LARGE"

    @classmethod
    def of_upload(cls, max_bytes: int) -> TooLargeError:
        """The error of an upload over a limit; it says what to change."""
        return cls(
            f"an upload may have at most {max_bytes} bytes: send a smaller file, or raise limits.max_upload_bytes of "
            "the server"
        )


class RequestMemoryError(ServiceError):
    """Requests that arrive take all the memory that there is for them."""

    reason = "TOO_MANY_BYTES"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "requests that arrive now take all the memory that the server has for them; try again, or send less at once"
        )


class AnswerMemoryError(ServiceError):
    """Answers that their callers have not taken yet have all the memory that there is for them."""

    reason = "TOO_MANY_BYTES"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "answers that were not read yet take all the memory that the server has for yours; read them, or ask for "
            "less at once, and try again"
        )


class TooManyCallsError(ServiceError):
    """As many long calls run on one connection as may."""

    reason = "TOO_MANY_CALLS"

    def __init__(self, limit: int) -> None:
        """Name the limit."""
        super().__init__(
            f"{limit} calls that last for long run on this connection, as many as may; end some, or open another one"
        )


class UnauthenticatedError(ServiceError):
    """Nothing proves who calls."""

    reason = "UNAUTHENTICATED"


class PermissionDeniedError(ServiceError):
    """The caller may not do this."""

    reason = "PERMISSION_DENIED"

    def __init__(self, scopes: Sequence[str]) -> None:
        """Name the scopes of which the call needs one; none where nobody may make it."""
        needed = f"needs the scope {' or '.join(scopes)}, which you do not have"
        super().__init__(f"this method {needed if scopes else 'is open to nobody'}")


class TenantQuotaError(ServiceError):
    """The tenant has as much as it may."""

    reason = "TENANT_QUOTA"

    def __init__(self, tenant: str, message: str, *, retry_after_seconds: float | None) -> None:
        """Say what the limit is, and when to try again; None for never."""
        super().__init__(message)
        self.tenant = tenant
        self.retry_after_seconds = retry_after_seconds


class QueuedQuotaError(TenantQuotaError):
    """The tenant has as much waiting or running as it may: it has to wait until some of that has gone on."""


class AuthenticationUnavailableError(ServiceError):
    """The identity provider does not answer, so nobody can be recognised by a token."""

    reason = "AUTHENTICATION_UNAVAILABLE"
    retry_after_seconds = 2.0

    def __init__(self) -> None:
        """Say so, without its address."""
        super().__init__("the keys to verify tokens with cannot be loaded yet; try again later")


class StorageError(ServiceError):
    """The disk or the database takes no writes, or fails to read; this passes."""

    reason = "STORAGE_UNAVAILABLE"
    retry_after_seconds = 5.0

    def __init__(self, message: str, *, size: int = 0) -> None:
        """`size` is the number of bytes that could not be written, if known."""
        super().__init__(message)
        self.size = size

    @classmethod
    def from_fault(cls, cause: str, *, size: int = 0) -> StorageError:
        """The error for a cause as the system or the database words it, without paths."""
        return cls(f"the server's storage has a fault ({cause}); try again later", size=size)


class DataLossError(ServiceError):
    """Stored bytes are missing or damaged."""

    reason = "ARTIFACT_CORRUPT"


class GenerationFailedError(ServiceError):
    """The generation that a call waited for did not succeed."""

    def __init__(self, generation: Generation, *, retry_after_seconds: float = 1.0) -> None:
        """Carry the failure of the generation, or say that it was cancelled.

        `retry_after_seconds` is the time after which another try may succeed, if the failure is retryable.
        """
        cancelled = generation.state == State.STATE_CANCELLED
        super().__init__(
            _explain_cancellation(generation) if cancelled else generation.failure.message
        )
        self.reason = "CANCELLED" if cancelled else generation.failure.reason
        retryable = generation.failure.retryable
        self.retry_after_seconds = retry_after_seconds if retryable else None
        self.metadata = {"generation_id": generation.id}


def _explain_cancellation(generation: Generation) -> str:
    if generation.cancel_cause != CancelCause.CANCEL_CAUSE_QUEUE_CLEARED:
        return "the generation was cancelled"
    reason = f": {generation.cancel_reason}" if generation.cancel_reason else ""
    return f"the generation was cancelled with the queue that it waited in{reason}"


class StartupError(OSError):
    """Base of the errors that keep the server from starting; the text says what to change."""


class DatabaseUnusableError(StartupError):
    """The database cannot be opened, is damaged, or was written by a newer version."""


class DataDirectoryUnusableError(StartupError):
    """The data directory cannot be created or written."""


class DataDirectoryInUseError(StartupError):
    """Another server uses the data directory."""


class MissingPackageError(StartupError):
    """The configuration asks for something whose packages are not installed."""


class AddressInUseError(StartupError):
    """The address cannot be listened on: it is in use, or not an address of this machine."""


def failure(reason: str, message: str, *, retryable: bool = False) -> Failure:
    """A failure as the record carries it, with the gRPC code of its reason."""
    return Failure(reason=reason, code=CODES[reason].value[0], message=message, retryable=retryable)


def failure_from_error(error: Exception) -> Failure:
    """The failure to record for an error that ended an attempt; texts of unexpected errors are hidden."""
    match error:
        case EngineError():
            return failure(error.reason.value, str(error), retryable=error.retryable)
        case ServiceError():
            retryable = error.retry_after_seconds is not None
            return failure(error.reason, str(error), retryable=retryable)
        case _:
            return failure("INTERNAL", "the server failed; its log has the reason")
