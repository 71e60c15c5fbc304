"""Translates the errors of the other server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from atelier_client import errors as theirs
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
    TaskFailedError,
    UnsupportedError,
)

_OTHER = "the other server"


def _invalid(text: str) -> EngineError:
    return InvalidTaskError("task", text)


def _unsupported(text: str) -> EngineError:
    return UnsupportedError("task", text)


REASONS: Mapping[str, Callable[[str], EngineError]] = {
    "INVALID_REQUEST": _invalid,
    "INVALID_TASK": _invalid,
    "TOO_LARGE": _invalid,
    "UNSUPPORTED": _unsupported,
    "CONTENT_FILTERED": ContentFilteredError,
    "TASK_FAILED": TaskFailedError,
    "OUT_OF_MEMORY": OutOfMemoryError,
    "MODEL_MISSING": ModelMissingError,
    "ENGINE_QUOTA": EngineQuotaError,
    "BUDGET_EXCEEDED": EngineQuotaError,
    "TENANT_QUOTA": EngineUnavailableError,
    "UNKNOWN_ENGINE": EngineUnavailableError,
    "QUEUE_FULL": EngineUnavailableError,
    "TOO_MANY_BYTES": EngineUnavailableError,
    "TOO_MANY_CALLS": EngineUnavailableError,
    "STORAGE_UNAVAILABLE": EngineUnavailableError,
    "DRAINING": EngineUnavailableError,
    "ENGINE_UNAVAILABLE": EngineUnavailableError,
    "UNAUTHENTICATED": EngineUnavailableError,
    "PERMISSION_DENIED": EngineUnavailableError,
    "AUTHENTICATION_UNAVAILABLE": EngineUnavailableError,
    "ENGINE_UNCERTAIN": EngineUncertainError,
    "ENGINE_TIMEOUT": EngineTimeoutError,
    "DEADLINE_EXCEEDED": EngineTimeoutError,
    "DEADLINE_UNATTAINABLE": EngineTimeoutError,
    "NOT_FOUND": EngineFailedError,
    "REQUEST_ID_REUSED": EngineFailedError,
    "CANCELLED": JobStoppedError,
    "POISONED": TaskFailedError,
    "ARTIFACT_CORRUPT": EngineFailedError,
    "ENGINE_FAILED": EngineFailedError,
    "INTERNAL": EngineFailedError,
}
"""Reason of the contract to the error of an engine."""


def translate_rejection(error: theirs.AtelierError) -> EngineError:
    """The error for a task that was not accepted, or for a generation that has ended."""
    text = f"{_OTHER}: {error}"
    match error:
        case theirs.InvalidRequestError(violations=(first, *_)):
            return InvalidTaskError(_strip_task(first.field), text)
        case theirs.UnavailableError(retry_after_seconds=float(seconds)):
            return EngineUnavailableError(text, retry_after_seconds=seconds)
        case theirs.AccessDeniedError() | theirs.TlsError():
            return EngineUnavailableError(f"{text}; check the configured token and certificates")
        case theirs.ServerUnreachableError():
            return EngineUnavailableError(f"{_OTHER} is unreachable")
        case theirs.DeadlineError(reason=""):
            return EngineTimeoutError(f"{_OTHER} timed out")
        case _:
            return REASONS.get(error.reason, EngineFailedError)(text)


def translate_after_acceptance(error: theirs.AtelierError) -> EngineError:
    """The error for an accepted task: while the server is unreachable, the task may still be running."""
    if not error.reason and isinstance(error, theirs.UnavailableError | theirs.DeadlineError):
        return EngineTimeoutError(
            f"{_OTHER} has become unreachable; the task may still be running there"
        )
    if isinstance(error, theirs.NotFoundError):
        return EngineFailedError(f"{_OTHER} no longer has this generation: it is lost")
    return translate_rejection(error)


def translate_unanswered(error: theirs.AtelierError) -> EngineError:
    """The error for a task that was sent without an answer, and could not be sent again."""
    return EngineUncertainError(
        f"{_OTHER} became unreachable while the task was sent ({error}); the task may be running there"
    )


def _strip_task(path: str) -> str:
    """The path of a field without the task in front."""
    return path.removeprefix("image.").removeprefix("audio.")
