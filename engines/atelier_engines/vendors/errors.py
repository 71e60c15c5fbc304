"""Translates failed HTTP requests to errors of engines: by status, by transport error, by invalid response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)

_MAX_MESSAGE_LENGTH = 300
_SERVER_ERROR = 500
_REQUEST_TIMEOUT = 408
_INVALID_TASK = frozenset({400, 413, 415, 422})
NOT_STARTED = frozenset({409, 425, 429, 503})
"""Statuses that say the service started nothing, so that even paid requests may be sent again."""
_BY_STATUS: Mapping[int, tuple[type[EngineError], str]] = {
    401: (EngineUnavailableError, "; check the configured key"),
    402: (EngineQuotaError, "; the account has no credit left"),
    403: (EngineUnavailableError, "; check the permissions of the configured key"),
    404: (EngineFailedError, "; it does not exist there, or no longer"),
    408: (EngineTimeoutError, ""),
    410: (EngineFailedError, "; it no longer exists there"),
    451: (ContentFilteredError, ""),
    504: (EngineTimeoutError, ""),
}
_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
_INVALID_URL = (httpx2.UnsupportedProtocol, httpx2.InvalidURL)


def translate_status(
    vendor: str, status: int, text: str, *, retry_after: float | None, paid: bool = False
) -> EngineError:
    """The error for a response with that status (400 to 599).

    `text` is the service's own error message. After a `paid` request most server errors do not say
    whether it was accepted.
    """
    message = f"{vendor} answered {status}{': ' if text else ''}{text[:_MAX_MESSAGE_LENGTH]}"
    if status in _INVALID_TASK:
        return InvalidTaskError("options", f"{message}; change the task accordingly")
    if paid and status >= _SERVER_ERROR and status not in NOT_STARTED:
        return EngineUncertainError(f"{message}; {_MAYBE_ACCEPTED}")
    if status in NOT_STARTED or (status >= _SERVER_ERROR and status not in _BY_STATUS):
        return EngineUnavailableError(
            message, retry_after_seconds=1.0 if retry_after is None else retry_after
        )
    error_type, hint = _BY_STATUS.get(status, (EngineFailedError, ""))
    return error_type(f"{message}{hint}")


def is_transient(status: int) -> bool:
    """Whether the same free request may succeed when it is sent again soon."""
    return status >= _SERVER_ERROR or status in NOT_STARTED or status == _REQUEST_TIMEOUT


def translate_transport(
    vendor: str, error: httpx2.HTTPError | httpx2.InvalidURL | TimeoutError, *, paid: bool
) -> EngineError:
    """The error for a broken connection, or for a response that did not end in time.

    A `paid` request that was sent may have arrived, so it must not be sent again; without a
    connection it did not arrive.
    """
    if isinstance(error, _INVALID_URL):
        return EngineFailedError(f"{vendor} sent a URL that is not http(s)")
    if paid and not isinstance(error, _NEVER_SENT):
        return EngineUncertainError(
            f"the connection to {vendor} broke after the request was sent; {_MAYBE_ACCEPTED}"
        )
    if isinstance(error, TimeoutError):
        return EngineTimeoutError(f"{vendor} took too long to respond")
    if isinstance(error, httpx2.TransportError):
        return EngineUnavailableError(f"{vendor} cannot be reached ({type(error).__name__})")
    return EngineFailedError(f"{vendor} sent an invalid HTTP response ({type(error).__name__})")


@contextmanager
def after_acceptance(vendor: str) -> Iterator[None]:
    """Context for requests about a job that the service has accepted.

    Raises:
        EngineTimeoutError: in place of EngineUnavailableError, which would let another engine be paid too.
    """
    try:
        yield
    except EngineUnavailableError as error:
        raise EngineTimeoutError(f"{error}; {vendor} may still be working on the task") from error


def invalid_response(vendor: str, what: str, *, paid: bool) -> EngineError:
    """The error for a successful response that cannot be used; `what` says what is wrong with it."""
    message = f"{vendor} sent a response {what}"
    if paid:
        return EngineUncertainError(f"{message}; {_MAYBE_ACCEPTED}")
    return EngineFailedError(message)


_MAYBE_ACCEPTED = "the task may have been accepted, so it is not sent again"
