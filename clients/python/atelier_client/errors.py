"""The errors that this package raises.

AtelierError
├── InvalidRequestError         the request is invalid; `violations` name the fields
├── UnsupportedError            the engine or the server does not support the task
├── ContentFilteredError        a safety check blocked the prompt or the result
├── NotFoundError               no such engine, generation or artifact
├── ConflictError               the request id was used for another request
├── AccessDeniedError           authentication or authorization failed
├── QuotaError                  your quota, or that of the remote service, is exhausted
├── OutOfMemoryError            out of memory on the device of the engine
├── TlsError                    the connection cannot be encrypted as it was asked for
├── DeadlineError               the deadline was exceeded, or cannot be met
├── UnavailableError            try again later: the queue is full, the server is loading or draining
│   └── ServerUnreachableError  the server cannot be reached
├── GenerationCancelledError    the generation was cancelled
├── GenerationFailedError       the engine failed while it ran the task
├── TransferError               the received bytes are damaged
├── NotDownloadedError          the bytes of this output were not fetched
├── MissingPackageError         an optional package is not installed; the text has the command
├── BatchError                  tasks of a batch failed; `results` has the outcomes of all
├── ClientClosedError           the client was closed
└── InternalError               internal error of the server

`atelier_client.status` creates them from status codes and from failed generations.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One invalid field of a request."""

    field: str
    """Path of the field, such as `image.width`."""
    message: str
    """What is wrong with it."""


class AtelierError(Exception):
    """The base of all errors; the text says what happened and what to change."""

    def __init__(self, message: str, *, reason: str = "", generation_id: str = "") -> None:
        """Keep the upper-snake `reason` of the server, and the id of the generation, where known."""
        super().__init__(message)
        self.reason = reason
        self.generation_id = generation_id


class InvalidRequestError(AtelierError):
    """The request is invalid."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        generation_id: str = "",
        violations: tuple[Violation, ...] = (),
    ) -> None:
        """Keep the invalid fields, where the server names them."""
        super().__init__(message, reason=reason, generation_id=generation_id)
        self.violations = violations


def invalid_value(name: str, message: str) -> InvalidRequestError:
    """The error of one field, named as the caller names it."""
    return InvalidRequestError(
        f"{name}: {message}", violations=(Violation(field=name, message=message),)
    )


class UnsupportedError(AtelierError):
    """The engine or the server does not support the task."""


class ContentFilteredError(AtelierError):
    """A safety check blocked the prompt or the result."""


class NotFoundError(AtelierError):
    """There is no such engine, generation or artifact."""


class ConflictError(AtelierError):
    """The request id was used for another request."""


class AccessDeniedError(AtelierError):
    """Authentication or authorization failed."""


class TlsError(AtelierError):
    """The connection cannot be encrypted as it was asked for; the text says what to change."""


class QuotaError(AtelierError):
    """Your quota, or that of the remote service, is exhausted."""


class OutOfMemoryError(AtelierError):
    """Out of memory on the device of the engine; the text names a size that fits, where known."""


class DeadlineError(AtelierError):
    """The deadline was exceeded, or cannot be met."""


class UnavailableError(AtelierError):
    """Try again later: the queue is full, the server is loading or draining."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        generation_id: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        """Keep the delay before the next attempt, where the server gives one."""
        super().__init__(message, reason=reason, generation_id=generation_id)
        self.retry_after_seconds = retry_after_seconds


class ServerUnreachableError(UnavailableError):
    """The server cannot be reached, or the connection broke."""


class GenerationCancelledError(AtelierError):
    """The generation, or the call, was cancelled."""


class GenerationFailedError(AtelierError):
    """The engine failed while it ran the task."""


class TransferError(AtelierError):
    """The received bytes are damaged."""


class NotDownloadedError(AtelierError):
    """The bytes of this output were not fetched: call `client.fetch(generation)`."""


class MissingPackageError(AtelierError):
    """An optional package of this machine is not installed; the text has the command that installs it."""


class BatchError(AtelierError):
    """Tasks of a batch failed."""

    def __init__(self, message: str, *, results: tuple[object, ...]) -> None:
        """Keep what became of each task, in order: a `Generation`, or an `AtelierError`."""
        super().__init__(message)
        self.results = results


class ClientClosedError(AtelierError):
    """The client was closed: make a new one."""


class InternalError(AtelierError):
    """Internal error of the server."""
