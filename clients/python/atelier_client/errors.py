"""Everything that this package raises.

AtelierError
├── InvalidRequestError         the request is wrong as it stands; `violations` name the fields
├── UnsupportedError            the engine, or the server, lacks what the task needs
├── ContentFilteredError        a safety check refused the prompt or the result
├── NotFoundError               no such engine, generation or artifact, or not yours
├── ConflictError               the request id was used before, for another request
├── AccessDeniedError           the server does not know you, or does not let you
├── QuotaError                  your quota, or the vendor's, is used up
├── OutOfMemoryError            too large for the engine's device
├── DeadlineError               the time allowed is over, or would not do
├── UnavailableError            not now: the queue is full, the server is loading or leaving
│   └── ServerUnreachableError  nobody answers at that address
├── GenerationCancelledError    the generation was cancelled
├── GenerationFailedError       the engine began the work and failed
├── TransferError               the bytes that arrived are not those that were sent
├── NotDownloadedError          the bytes of this output were not fetched yet
└── InternalError               the server made a mistake

`atelier_client.status` draws them from status codes and from failed generations.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One field of a request that is wrong."""

    field: str
    """Path of the field, such as `image.width`."""
    message: str
    """What is wrong with it."""


class AtelierError(Exception):
    """Base of all; its text says what happened and what to change."""

    def __init__(self, message: str, *, reason: str = "", generation_id: str = "") -> None:
        """Keep the server's upper-snake `reason`, and the generation it is about, where known."""
        super().__init__(message)
        self.reason = reason
        self.generation_id = generation_id


class InvalidRequestError(AtelierError):
    """The request is wrong as it stands."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        generation_id: str = "",
        violations: tuple[Violation, ...] = (),
    ) -> None:
        """Name the fields, where the server did."""
        super().__init__(message, reason=reason, generation_id=generation_id)
        self.violations = violations


class UnsupportedError(AtelierError):
    """The engine, or the server, lacks what the task needs."""


class ContentFilteredError(AtelierError):
    """A safety check refused the prompt or the result."""


class NotFoundError(AtelierError):
    """No such engine, generation or artifact, or not yours."""


class ConflictError(AtelierError):
    """The request id was used before, for another request."""


class AccessDeniedError(AtelierError):
    """The server does not know you, or does not let you."""


class QuotaError(AtelierError):
    """Your quota, or the vendor's, is used up."""


class OutOfMemoryError(AtelierError):
    """Too large for the engine's device; the text names what fits, where known."""


class DeadlineError(AtelierError):
    """The time allowed is over, or would not do."""


class UnavailableError(AtelierError):
    """Not now: the queue is full, the server is loading or leaving."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        generation_id: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        """Say when to try again, where the server did."""
        super().__init__(message, reason=reason, generation_id=generation_id)
        self.retry_after_seconds = retry_after_seconds


class ServerUnreachableError(UnavailableError):
    """Nobody answers at that address, or the connection broke."""


class GenerationCancelledError(AtelierError):
    """The generation, or the call, was cancelled."""


class GenerationFailedError(AtelierError):
    """The engine began the work and failed."""


class TransferError(AtelierError):
    """The bytes that arrived are not those that were sent."""


class NotDownloadedError(AtelierError):
    """The bytes of this output were not fetched yet: `client.fetch(generation)` does it."""


class InternalError(AtelierError):
    """The server made a mistake."""
