"""Every HTTP status and transport error is translated."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
)
from atelier_engines.vendors import errors

NEVER_SENT = {
    "ConnectError",
    "ConnectTimeout",
    "PoolTimeout",
    "ProxyError",
}
NO_ADDRESS = {"UnsupportedProtocol"}


def tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    """The class and everything in httpx2 that derives from it; other packages derive their own."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.partition(".")[0] == kind.__module__.partition(".")[0]:
            yield from tree(child)


TRANSPORT = sorted(set(tree(httpx2.TransportError)), key=lambda kind: kind.__name__)
HTTP = sorted(set(tree(httpx2.HTTPError)), key=lambda kind: kind.__name__)


def made(kind: type[Exception]) -> httpx2.HTTPError:
    """An exception of that kind."""
    request = httpx2.Request("GET", "https://acme.test/?key=secret")
    if kind is httpx2.HTTPStatusError:
        response = httpx2.Response(500, request=request)
        return httpx2.HTTPStatusError("secret", request=request, response=response)
    error = kind("secret")
    assert isinstance(error, httpx2.HTTPError)
    return error


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_has_its_error(status: int, *, paid: bool) -> None:
    """It names the vendor, the status and the vendor's message."""
    error = errors.translate_status("acme", status, "because", retry_after=None, paid=paid)
    assert type(error) in set(EngineError.__subclasses__())
    assert str(error).startswith(f"acme answered {status}: because")


@pytest.mark.parametrize("status", range(500, 600))
def test_after_a_paid_request_only_503_allows_a_retry(status: int) -> None:
    """Only 503 says that nothing was started."""
    error = errors.translate_status("acme", status, "", retry_after=None, paid=True)
    assert isinstance(error, EngineUnavailableError if status == 503 else EngineUncertainError)


@pytest.mark.parametrize("status", range(400, 600))
def test_a_free_request_is_never_uncertain(status: int) -> None:
    """It can be sent again."""
    error = errors.translate_status("acme", status, "", retry_after=None)
    assert not isinstance(error, EngineUncertainError)


@pytest.mark.parametrize("wanted", [0.0, 3.5])
def test_retry_after_is_passed_on(wanted: float) -> None:
    """One second if absent; zero stays zero."""
    error = errors.translate_status("acme", 429, "", retry_after=wanted)
    assert isinstance(error, EngineUnavailableError)
    assert error.retry_after_seconds == wanted


def test_a_vendors_message_is_truncated() -> None:
    """It may be a long HTML page."""
    assert len(str(errors.translate_status("acme", 400, "x" * 9999, retry_after=None))) < 400


@pytest.mark.parametrize("kind", HTTP, ids=lambda kind: kind.__name__)
def test_every_broken_connection_has_its_error(kind: type[Exception]) -> None:
    """Without its text, which may contain URLs with keys."""
    error = errors.translate_transport("acme", made(kind), paid=False)
    assert isinstance(error, EngineUnavailableError | EngineFailedError)
    assert "acme" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("kind", TRANSPORT, ids=lambda kind: kind.__name__)
def test_after_a_paid_request_only_what_was_never_sent_may_be_retried(
    kind: type[Exception],
) -> None:
    """A class that httpx2 adds is uncertain by default."""
    error = errors.translate_transport("acme", made(kind), paid=True)
    if kind.__name__ in NEVER_SENT:
        assert isinstance(error, EngineUnavailableError)
    elif kind.__name__ in NO_ADDRESS:
        assert isinstance(error, EngineFailedError)
    else:
        assert isinstance(error, EngineUncertainError)


def test_an_invalid_url_has_failed_and_is_not_retried() -> None:
    """Waiting would not help."""
    error = errors.translate_transport("acme", httpx2.InvalidURL("secret"), paid=False)
    assert isinstance(error, EngineFailedError)
    assert "secret" not in str(error)


def test_a_response_without_end_is_a_timeout_or_uncertain() -> None:
    """Depending on whether the request was paid."""
    assert isinstance(
        errors.translate_transport("acme", TimeoutError(), paid=False), EngineTimeoutError
    )
    assert isinstance(
        errors.translate_transport("acme", TimeoutError(), paid=True), EngineUncertainError
    )


def test_after_acceptance_no_error_says_that_nothing_was_started() -> None:
    """Another engine would be paid for the same task."""
    with pytest.raises(EngineTimeoutError) as error, errors.after_acceptance("acme"):
        raise EngineUnavailableError("acme cannot be reached")
    assert not error.value.repeatable
    with pytest.raises(EngineFailedError), errors.after_acceptance("acme"):
        raise EngineFailedError("it failed")
