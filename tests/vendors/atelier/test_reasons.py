"""What the errors of the other server mean here."""

from __future__ import annotations

import pytest

from atelier_client import errors as theirs
from atelier_engines.errors import EngineError, InvalidTaskError
from atelier_engines.forwarding import errors
from atelier_server.errors import CODES


def test_every_reason_of_the_contract_has_its_error() -> None:
    """A new reason fails here, not in production."""
    assert set(errors.REASONS) == set(CODES)


@pytest.mark.parametrize("reason", sorted(CODES))
def test_the_error_of_a_reason_keeps_the_text(reason: str) -> None:
    """And says whose text it is."""
    error = errors.translate_rejection(theirs.AtelierError("make it smaller", reason=reason))
    assert isinstance(error, EngineError)
    assert "make it smaller" in str(error)


def test_a_wrong_field_is_blamed_by_its_name_in_the_task() -> None:
    """Without the kind of task before it."""
    violation = theirs.Violation(field="image.controls[0].strength", message="too much")
    error = errors.translate_rejection(theirs.InvalidRequestError("no", violations=(violation,)))
    assert isinstance(error, InvalidTaskError)
    assert error.field == "controls[0].strength"


def test_silence_about_accepted_work_is_no_leave_to_do_it_again() -> None:
    """Neither here nor on another engine."""
    error = errors.translate_after_acceptance(theirs.ServerUnreachableError("gone"))
    assert not error.repeatable
