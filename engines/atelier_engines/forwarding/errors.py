"""What the errors of the other server mean here."""

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
    ModelMissingError,
    OutOfMemoryError,
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
    "OUT_OF_MEMORY": OutOfMemoryError,
    "MODEL_MISSING": ModelMissingError,
    "ENGINE_QUOTA": EngineQuotaError,
    "BUDGET_EXCEEDED": EngineQuotaError,
    "UNKNOWN_ENGINE": EngineUnavailableError,
    "QUEUE_FULL": EngineUnavailableError,
    "DRAINING": EngineUnavailableError,
    "ENGINE_UNAVAILABLE": EngineUnavailableError,
    "ENGINE_UNCERTAIN": EngineUncertainError,
    "ENGINE_TIMEOUT": EngineTimeoutError,
    "DEADLINE_EXCEEDED": EngineTimeoutError,
    "DEADLINE_UNATTAINABLE": EngineTimeoutError,
    "NOT_FOUND": EngineFailedError,
    "REQUEST_ID_REUSED": EngineFailedError,
    "CANCELLED": EngineFailedError,
    "POISONED": EngineFailedError,
    "ARTIFACT_CORRUPT": EngineFailedError,
    "ENGINE_FAILED": EngineFailedError,
    "INTERNAL": EngineFailedError,
}
"""The error that each reason of the contract means."""


def refused(error: theirs.AtelierError) -> EngineError:
    """The error of a call that ended before the work was accepted, or of a generation that has ended."""
    text = f"{_OTHER} says: {error}"
    match error:
        case theirs.InvalidRequestError(violations=(first, *_)):
            return InvalidTaskError(_field(first.field), text)
        case theirs.UnavailableError(retry_after_seconds=float(seconds)):
            return EngineUnavailableError(text, retry_after_seconds=seconds)
        case theirs.AccessDeniedError():
            return EngineUnavailableError(f"{text}; check the configured token")
        case theirs.ServerUnreachableError():
            return EngineUnavailableError(f"{_OTHER} cannot be reached")
        case theirs.DeadlineError(reason=""):
            return EngineTimeoutError(f"{_OTHER} answers too slowly")
        case _:
            return REASONS.get(error.reason, EngineFailedError)(text)


def under_way(error: theirs.AtelierError) -> EngineError:
    """The error of a call about accepted work: that the server is silent does not mean that it stopped."""
    if not error.reason and isinstance(error, theirs.UnavailableError | theirs.DeadlineError):
        return EngineTimeoutError(
            f"{_OTHER} has stopped answering; it may still be at work on the task"
        )
    if isinstance(error, theirs.NotFoundError):
        return EngineFailedError(f"{_OTHER} does not know this work any more: it is lost")
    return refused(error)


def uncertain(error: theirs.AtelierError) -> EngineError:
    """The error of a task that was sent when the server fell silent, and could not be sent again."""
    return EngineUncertainError(
        f"{_OTHER} stopped answering while the task was sent ({error}); it may be at work on it"
    )


def _field(path: str) -> str:
    """The name of a field within its task; options stand beside it."""
    return path.removeprefix("image.").removeprefix("audio.")
