"""The tables of faults leave nothing out."""

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
    """It names the vendor, the status and the vendor's words."""
    error = errors.translate_status("acme", status, "because", retry_after=None, paid=paid)
    assert type(error) in set(EngineError.__subclasses__())
    assert str(error).startswith(f"acme answered {status}: because")


@pytest.mark.parametrize("status", range(500, 600))
def test_after_an_order_no_fault_of_the_service_may_be_repeated_but_503(status: int) -> None:
    """Only 503 says that nothing was taken on."""
    error = errors.translate_status("acme", status, "", retry_after=None, paid=True)
    assert isinstance(error, EngineUnavailableError if status == 503 else EngineUncertainError)


@pytest.mark.parametrize("status", range(400, 600))
def test_a_free_question_is_never_uncertain(status: int) -> None:
    """Asking again can do no harm."""
    error = errors.translate_status("acme", status, "", retry_after=None)
    assert not isinstance(error, EngineUncertainError)


@pytest.mark.parametrize("wanted", [0.0, 3.5])
def test_the_pause_that_the_service_wants_is_passed_on(wanted: float) -> None:
    """None means a second; zero means zero."""
    error = errors.translate_status("acme", 429, "", retry_after=wanted)
    assert isinstance(error, EngineUnavailableError)
    assert error.retry_after_seconds == wanted


def test_what_a_vendor_says_is_cut_short() -> None:
    """A page of HTML is no message."""
    assert len(str(errors.translate_status("acme", 400, "x" * 9999, retry_after=None))) < 400


@pytest.mark.parametrize("kind", HTTP, ids=lambda kind: kind.__name__)
def test_every_broken_connection_has_its_error(kind: type[Exception]) -> None:
    """Its words stay inside: they may hold addresses with keys."""
    error = errors.translate_transport("acme", made(kind), paid=False)
    assert isinstance(error, EngineUnavailableError | EngineFailedError)
    assert "acme" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("kind", TRANSPORT, ids=lambda kind: kind.__name__)
def test_after_an_order_only_what_was_never_sent_may_be_repeated(kind: type[Exception]) -> None:
    """A class that httpx2 adds is uncertain until somebody says otherwise."""
    error = errors.translate_transport("acme", made(kind), paid=True)
    if kind.__name__ in NEVER_SENT:
        assert isinstance(error, EngineUnavailableError)
    elif kind.__name__ in NO_ADDRESS:
        assert isinstance(error, EngineFailedError)
    else:
        assert isinstance(error, EngineUncertainError)


def test_an_address_that_is_none_has_failed_and_is_not_asked_again() -> None:
    """Waiting mends no address."""
    error = errors.translate_transport("acme", httpx2.InvalidURL("secret"), paid=False)
    assert isinstance(error, EngineFailedError)
    assert "secret" not in str(error)


def test_an_answer_without_end_is_a_timeout_or_uncertain() -> None:
    """Depending on whether it was an order."""
    assert isinstance(
        errors.translate_transport("acme", TimeoutError(), paid=False), EngineTimeoutError
    )
    assert isinstance(
        errors.translate_transport("acme", TimeoutError(), paid=True), EngineUncertainError
    )


def test_while_work_is_under_way_nothing_says_that_none_was_begun() -> None:
    """Another engine would be paid for the same task."""
    with pytest.raises(EngineTimeoutError) as error, errors.after_acceptance("acme"):
        raise EngineUnavailableError("acme cannot be reached")
    assert not error.value.repeatable
    with pytest.raises(EngineFailedError), errors.after_acceptance("acme"):
        raise EngineFailedError("it failed")
