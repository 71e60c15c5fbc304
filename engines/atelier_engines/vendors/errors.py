"""What the faults of HTTP mean: one table for answers, one for broken connections, one for nonsense."""

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

_LONGEST_TEXT = 300
_SERVER_ERROR = 500
_REQUEST_TIMEOUT = 408
_REFUSED_TASK = frozenset({400, 413, 415, 422})
UNTOUCHED = frozenset({409, 425, 429, 503})
"""Statuses by which a service says that it took nothing on, so that even orders may be repeated."""
_OTHERS: Mapping[int, tuple[type[EngineError], str]] = {
    401: (EngineUnavailableError, "; check the configured key"),
    402: (EngineQuotaError, "; the account has no credit left"),
    403: (EngineUnavailableError, "; check what the configured key may do"),
    404: (EngineFailedError, "; it does not know this, or not any more"),
    408: (EngineTimeoutError, ""),
    410: (EngineFailedError, "; it does not have this any more"),
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
_NO_ADDRESS = (httpx2.UnsupportedProtocol, httpx2.InvalidURL)


def of_status(
    vendor: str, status: int, text: str, *, retry_after: float | None, paid: bool = False
) -> EngineError:
    """The error that an answer with that status (400 to 599) means.

    `text` is the vendor's own explanation. After a `paid` request most faults of the service leave
    open whether it was accepted.
    """
    says = f"{vendor} answered {status}{': ' if text else ''}{text[:_LONGEST_TEXT]}"
    if status in _REFUSED_TASK:
        return InvalidTaskError("options", f"{says}; change the task accordingly")
    if paid and status >= _SERVER_ERROR and status not in UNTOUCHED:
        return EngineUncertainError(f"{says}; {_MAYBE_ACCEPTED}")
    if status in UNTOUCHED or (status >= _SERVER_ERROR and status not in _OTHERS):
        return EngineUnavailableError(
            says, retry_after_seconds=1.0 if retry_after is None else retry_after
        )
    kind, hint = _OTHERS.get(status, (EngineFailedError, ""))
    return kind(f"{says}{hint}")


def passing(status: int) -> bool:
    """Whether the same question may be answered if it is asked again soon."""
    return status >= _SERVER_ERROR or status in UNTOUCHED or status == _REQUEST_TIMEOUT


def of_transport(
    vendor: str, error: httpx2.HTTPError | httpx2.InvalidURL | TimeoutError, *, paid: bool
) -> EngineError:
    """The error that a broken connection, or an answer that never ended, means.

    After a `paid` request was sent nobody knows whether it arrived: that must not be repeated. If the
    connection was never made, it did not arrive.
    """
    if isinstance(error, _NO_ADDRESS):
        return EngineFailedError(f"{vendor} gave an address that is none for HTTP")
    if paid and not isinstance(error, _NEVER_SENT):
        return EngineUncertainError(
            f"the connection to {vendor} broke after the request was sent; {_MAYBE_ACCEPTED}"
        )
    if isinstance(error, TimeoutError):
        return EngineTimeoutError(f"{vendor} answered too slowly")
    if isinstance(error, httpx2.TransportError):
        return EngineUnavailableError(f"{vendor} cannot be reached ({type(error).__name__})")
    return EngineFailedError(f"{vendor} sent what is no HTTP ({type(error).__name__})")


@contextmanager
def under_way(vendor: str) -> Iterator[None]:
    """For questions about work that the vendor has accepted: no fault there means that nothing was begun.

    Raises:
        EngineTimeoutError: instead of EngineUnavailableError, after which another engine would be paid too.
    """
    try:
        yield
    except EngineUnavailableError as error:
        raise EngineTimeoutError(f"{error}; {vendor} may still be at work on the task") from error


def of_nonsense(vendor: str, what: str, *, paid: bool) -> EngineError:
    """The error that an answer means which says success but cannot be used; `what` is wrong with it."""
    says = f"{vendor} sent an answer {what}"
    return EngineUncertainError(f"{says}; {_MAYBE_ACCEPTED}") if paid else EngineFailedError(says)


_MAYBE_ACCEPTED = "the task may have been accepted, so it is not sent again"
