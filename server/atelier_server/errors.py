"""Everything the service refuses or fails with, and the one table from reasons to gRPC codes.

ServiceError
├── InvalidRequestError     INVALID_REQUEST       fields are wrong; says which
├── UnknownEngineError      UNKNOWN_ENGINE        no such engine; names those there are
├── NotFoundError           NOT_FOUND             no such generation or artifact, or not the caller's
├── ConflictError           REQUEST_ID_REUSED     the request id was used for another task
├── UnsupportedTaskError    UNSUPPORTED           the engine lacks something; names engines that have it
├── QueueFullError          QUEUE_FULL            too many wait
├── NotReadyError           ENGINE_UNAVAILABLE    the engine is loading or cannot work now
├── DrainingError           DRAINING              the server is about to stop
├── BudgetSpentError        BUDGET_SPENT          the engine's money for today is spent
├── InfeasibleDeadlineError DEADLINE_INFEASIBLE   it could not be done in time
├── TooLargeError           TOO_LARGE             more bytes than may be sent
├── DataLossError           ARTIFACT_CORRUPT      stored bytes are not what they were
└── GenerationFailedError   the reason of the failure the generation ended with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpc import StatusCode

from atelier.v1.generation_pb2 import Failure, Generation, State
from atelier_engines.errors import EngineError

CODES: Mapping[str, StatusCode] = {
    "INVALID_REQUEST": StatusCode.INVALID_ARGUMENT,
    "UNKNOWN_ENGINE": StatusCode.NOT_FOUND,
    "NOT_FOUND": StatusCode.NOT_FOUND,
    "REQUEST_ID_REUSED": StatusCode.ALREADY_EXISTS,
    "UNSUPPORTED": StatusCode.FAILED_PRECONDITION,
    "QUEUE_FULL": StatusCode.UNAVAILABLE,
    "DRAINING": StatusCode.UNAVAILABLE,
    "BUDGET_SPENT": StatusCode.RESOURCE_EXHAUSTED,
    "DEADLINE_INFEASIBLE": StatusCode.DEADLINE_EXCEEDED,
    "DEADLINE_EXCEEDED": StatusCode.DEADLINE_EXCEEDED,
    "TOO_LARGE": StatusCode.RESOURCE_EXHAUSTED,
    "ARTIFACT_CORRUPT": StatusCode.DATA_LOSS,
    "CANCELLED": StatusCode.CANCELLED,
    "POISONED": StatusCode.ABORTED,
    "INTERNAL": StatusCode.INTERNAL,
    # What engines fail with (atelier_engines.errors.Reason).
    "INVALID_TASK": StatusCode.INVALID_ARGUMENT,
    "CONTENT_FILTERED": StatusCode.FAILED_PRECONDITION,
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
    """One field that is wrong."""

    field: str
    """Its path in the request: image.controls[0].strength."""
    message: str
    """What it must be."""


class ServiceError(Exception):
    """Base of all; its text is for the caller and says what to change."""

    reason: str = "INTERNAL"
    retry_after_seconds: float | None = None
    """When trying again makes sense; None when it does not."""
    metadata: Mapping[str, str] = {}
    """Facts for programs, sent in ErrorInfo."""


class InvalidRequestError(ServiceError):
    """Fields of the request are wrong."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: Sequence[Violation]) -> None:
        """Blame these fields; at least one."""
        super().__init__("; ".join(f"{wrong.field}: {wrong.message}" for wrong in violations))
        self.violations = tuple(violations)


class UnknownEngineError(ServiceError):
    """No engine has that name."""

    reason = "UNKNOWN_ENGINE"

    def __init__(self, name: str, known: Sequence[str]) -> None:
        """Name those there are."""
        super().__init__(f"no engine {name!r}; there are {', '.join(known)}")


class NotFoundError(ServiceError):
    """No such generation or artifact, or it is another caller's."""

    reason = "NOT_FOUND"


class ConflictError(ServiceError):
    """The request id was used for another task."""

    reason = "REQUEST_ID_REUSED"


class UnsupportedTaskError(ServiceError):
    """The engine lacks something that the task needs."""

    reason = "UNSUPPORTED"


class QueueFullError(ServiceError):
    """Too many generations wait for the engine."""

    reason = "QUEUE_FULL"
    retry_after_seconds = 1.0


class NotReadyError(ServiceError):
    """The engine is loading, or cannot work now."""

    reason = "ENGINE_UNAVAILABLE"
    retry_after_seconds = 1.0


class DrainingError(ServiceError):
    """The server is about to stop."""

    reason = "DRAINING"
    retry_after_seconds = 1.0


class BudgetSpentError(ServiceError):
    """The money that may be spent on the engine today is spent."""

    reason = "BUDGET_SPENT"


class InfeasibleDeadlineError(ServiceError):
    """The generation could not be done in the time that is left."""

    reason = "DEADLINE_INFEASIBLE"


class TooLargeError(ServiceError):
    """More bytes than may be sent."""

    reason = "TOO_LARGE"


class DataLossError(ServiceError):
    """Stored bytes are gone, or not what they were."""

    reason = "ARTIFACT_CORRUPT"


class GenerationFailedError(ServiceError):
    """The generation that a call waited for did not succeed."""

    def __init__(self, generation: Generation) -> None:
        """Pass on why it FAILED, or that it was CANCELLED."""
        cancelled = generation.state == State.STATE_CANCELLED
        super().__init__(
            "the generation was cancelled" if cancelled else generation.failure.message
        )
        self.reason = "CANCELLED" if cancelled else generation.failure.reason
        self.retry_after_seconds = 1.0 if generation.failure.retryable else None
        self.metadata = {"generation_id": generation.id}


def failure_of(error: Exception) -> Failure:
    """What the record says of an error that ended an attempt; texts of unknown errors are hidden."""
    match error:
        case EngineError():
            reason, message, retryable = error.reason.value, str(error), error.retryable
        case ServiceError():
            reason, message, retryable = (
                error.reason,
                str(error),
                error.retry_after_seconds is not None,
            )
        case _:
            reason, message, retryable = (
                "INTERNAL",
                "the server failed; its log has the reason",
                False,
            )
    return Failure(reason=reason, code=CODES[reason].value[0], message=message, retryable=retryable)
