"""Which of several equal generations a repeated call without request id is given."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation, State
from atelier_server.generations.callers import Callers
from atelier_server.generations.repeated_calls import RepeatedCalls
from atelier_server.store.protocol import SubmitResult


def ended(name: str) -> SubmitResult:
    """A generation that has succeeded."""
    generation = Generation(id=name, request_id=name, state=State.STATE_SUCCEEDED)
    return SubmitResult(generation=generation, created=False, ends_with_callers=True)


def test_an_end_that_another_call_is_being_told_is_not_given_twice() -> None:
    """It has ended, and its call has not seen that yet: the other one is that of this call."""
    callers, calls = Callers(), RepeatedCalls()
    earlier = [ended("newest"), ended("oldest")]
    with callers.attend("newest", started=True), calls.choose(earlier, callers) as chosen:
        assert chosen == "oldest"
    callers.record_answer("newest")
    with calls.choose(earlier, callers) as chosen:
        assert chosen == "oldest"


def test_two_calls_at_once_are_given_one_each() -> None:
    """The newest first."""
    callers, calls = Callers(), RepeatedCalls()
    earlier = [ended("newest"), ended("oldest")]
    with (
        calls.choose(earlier, callers) as first,
        calls.choose(earlier, callers) as second,
    ):
        assert (first, second) == ("newest", "oldest")
