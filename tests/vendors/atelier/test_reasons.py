"""Translation of the errors of the other server."""

from __future__ import annotations

import pytest

from atelier_client import errors as theirs
from atelier_engines.errors import EngineError, EngineUnavailableError, InvalidTaskError
from atelier_engines.forwarding import errors
from atelier_server.errors import CODES


def test_every_reason_of_the_contract_has_its_error() -> None:
    """A new reason fails here, not in production."""
    assert set(errors.REASONS) == set(CODES)


@pytest.mark.parametrize("reason", sorted(CODES))
def test_the_error_of_a_reason_keeps_the_text(reason: str) -> None:
    """With the other server named as its source."""
    error = errors.translate_rejection(theirs.AtelierError("make it smaller", reason=reason))
    assert isinstance(error, EngineError)
    assert "make it smaller" in str(error)


def test_an_invalid_field_is_named_without_its_task() -> None:
    """The path starts within the task."""
    violation = theirs.Violation(field="image.controls[0].strength", message="too much")
    error = errors.translate_rejection(theirs.InvalidRequestError("no", violations=(violation,)))
    assert isinstance(error, InvalidTaskError)
    assert error.field == "controls[0].strength"


def test_the_time_to_try_again_is_that_of_the_other_server() -> None:
    """Its circuit breaker or its queue knows it."""
    busy = theirs.UnavailableError("busy", retry_after_seconds=7.0)
    error = errors.translate_rejection(busy)
    assert isinstance(error, EngineUnavailableError)
    assert error.retry_after_seconds == 7.0


def test_an_accepted_task_of_an_unreachable_server_is_not_repeated() -> None:
    """Neither here nor on another engine."""
    error = errors.translate_after_acceptance(theirs.ServerUnreachableError("gone"))
    assert not error.repeatable
