"""What the faults of HTTP mean: one table for answers, one for broken connections."""

from __future__ import annotations

from collections.abc import Mapping

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
_REFUSED_TASK = frozenset({400, 413, 415, 422})
_BUSY = frozenset({409, 425, 429})
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


def of_status(vendor: str, status: int, text: str, *, retry_after: float | None) -> EngineError:
    """The error that an answer with that status (400 to 599) means; `text` is the vendor's own explanation."""
    says = f"{vendor} answered {status}{': ' if text else ''}{text[:_LONGEST_TEXT]}"
    if status in _REFUSED_TASK:
        return InvalidTaskError("options", f"{says}; change the task accordingly")
    if status in _BUSY or (status >= _SERVER_ERROR and status not in _OTHERS):
        return EngineUnavailableError(says, retry_after_seconds=retry_after or 1.0)
    kind, hint = _OTHERS.get(status, (EngineFailedError, ""))
    return kind(f"{says}{hint}")


def of_transport(vendor: str, error: httpx2.HTTPError, *, paid: bool) -> EngineError:
    """The error that a broken connection means.

    After a `paid` request was sent nobody knows whether it arrived: that must not be repeated. If the
    connection was never made, it did not arrive.
    """
    never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    if paid and not never_sent:
        return EngineUncertainError(
            f"the connection to {vendor} broke after the request was sent; it may have been accepted, "
            "so it is not sent again"
        )
    if isinstance(error, httpx2.TransportError):
        return EngineUnavailableError(f"{vendor} cannot be reached ({type(error).__name__})")
    return EngineFailedError(f"{vendor} sent what is no HTTP ({type(error).__name__})")
