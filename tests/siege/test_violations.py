"""The comparison reports each kind of fault that a server may have, and nothing of a server that has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atelier.v1.generation_pb2 import AttemptOutcome, CancelCause, CancelOutcome, Generation, State
from tests.conftest import ROOT
from tests.siege.disturbances import DRAIN, KILL
from tests.siege.explained import EXPLAINED, Cause
from tests.siege.plan import PAID, SIDE, SKETCH, Kind, Planned, plan
from tests.siege.recorder import Answer, Asked, Disturbance, SeenEvent, Stream
from tests.siege.stored import Orders, StoredGeneration
from tests.siege.violations import Evidence, Violation, find_violations

_ID, _REQUEST, _DIGEST, _BYTES = "g1", "r1", "0" * 64, 10
_ACCEPTED = 1_000_000_000
"""Unix time in seconds."""


def planned(**fields: Any) -> Planned:  # noqa: ANN401 (fields of a plan)
    """One image of the sketch engine, unless the fields say otherwise."""
    usual: dict[str, Any] = {
        "request_id": _REQUEST,
        "kind": Kind.SUBMIT,
        "engine": SKETCH,
        "images": 1,
        "seed": 7,
        "seconds": 0.1,
    }
    return Planned(**{**usual, **fields})


def asked(*, states: tuple[str, ...] = ("QUEUED",), **fields: Any) -> Asked:  # noqa: ANN401 (fields by name)
    """The request, answered with these states."""
    answers = [Answer(generation_id=_ID, state=state) for state in states]
    return Asked(planned=planned(**fields), answers=answers)


def event(sequence: int, state: str = "RUNNING", **fields: Any) -> SeenEvent:  # noqa: ANN401 (fields by name)
    """An event of the first attempt."""
    usual: dict[str, Any] = {
        "sequence": sequence,
        "state": state,
        "engine": SKETCH,
        "attempt": 1,
        "stage": "",
        "step": 0,
        "steps": 0,
        "progress": 0.0,
        "queue_position": None,
    }
    return SeenEvent(**{**usual, **fields})


LOG = (
    event(1, "QUEUED", attempt=0),
    event(2),
    event(3, progress=0.5),
    event(4, "SUCCEEDED", progress=1.0),
)


def succeeded() -> Generation:
    """A record of one image after one attempt."""
    generation = Generation(id=_ID, request_id=_REQUEST, state=State.STATE_SUCCEEDED, engine=SKETCH)
    generation.image.prompt = _REQUEST
    generation.create_time.FromSeconds(_ACCEPTED)
    generation.start_time.FromSeconds(_ACCEPTED + 1)
    generation.end_time.FromSeconds(_ACCEPTED + 10)
    output = generation.outputs.add(seed=7)
    output.artifact.id, output.artifact.sha256, output.artifact.size = "a1", _DIGEST, _BYTES
    output.artifact.image_size.width = output.artifact.image_size.height = SIDE
    generation.receipt.attempts.add(
        number=1, outcome=AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED, engine=SKETCH
    )
    generation.receipt.recipe.seeds.append(7)
    return generation


def ended(state: str, reason: str = "", **fields: Any) -> StoredGeneration:  # noqa: ANN401 (fields by name)
    """A record without outputs, in this state for this reason."""
    generation = succeeded()
    del generation.outputs[:]
    generation.receipt.attempts[0].outcome = AttemptOutcome.ATTEMPT_OUTCOME_FAILED
    generation.state = State.Value(f"STATE_{state}")
    if state == "FAILED":
        generation.failure.reason = reason
    if state == "CANCELLED":
        outcome, cause = reason.split()
        generation.cancel_outcome = CancelOutcome.Value(f"CANCEL_OUTCOME_{outcome}")
        generation.cancel_cause = CancelCause.Value(f"CANCEL_CAUSE_{cause}")
    log = (*LOG[:3], event(4, state, progress=0.5))
    return replace(stored(generation, log=log), output_digests=(), output_sizes=(), **fields)


def stored(generation: Generation, log: tuple[SeenEvent, ...] = LOG) -> StoredGeneration:
    """The record with one whole output."""
    return StoredGeneration(
        generation=generation, log=log, output_digests=(_DIGEST,), output_sizes=(_BYTES,)
    )


def evidence(
    request: Asked,
    *made: StoredGeneration,
    **fields: Any,  # noqa: ANN401 (fields of an Evidence)
) -> Evidence:
    """A siege of one request, whose watcher saw everything."""
    seen = Stream(generation_id=_ID, after=0, completed=True)
    seen.events.extend(made[0].log if made else ())
    usual: dict[str, Any] = {
        "asked": {_REQUEST: request},
        "streams": [seen],
        "disturbances": [],
        "stored": {one.generation.id: one for one in made},
        "listed": [one.generation.id for one in made],
        "orders": {},
        "errors": {"UNAVAILABLE DRAINING": "come back"},
        "logged": frozenset(),
        "files": {
            output.artifact.id: output.artifact.sha256
            for one in made
            for output in one.generation.outputs
        },
    }
    return Evidence(**{**usual, **fields})


def found(evidence: Evidence) -> list[Violation]:
    """Kinds of the violations."""
    return [finding.violation for finding in find_violations(evidence)]


def test_a_server_that_keeps_its_promises_is_not_reported() -> None:
    """Accepted, watched, done."""
    assert find_violations(evidence(asked(), stored(succeeded()))) == []


def test_a_claim_that_is_dropped_at_recovery_is_a_loss() -> None:
    """The generation stays RUNNING for ever."""
    generation = succeeded()
    generation.state = State.STATE_RUNNING
    del generation.outputs[:]
    made = replace(stored(generation, log=LOG[:3]), output_digests=(), output_sizes=())
    seen = Stream(generation_id=_ID, after=0, events=list(LOG[:3]))
    assert found(evidence(asked(), made, streams=[seen])) == [Violation.LOST]


def test_an_accepted_generation_that_is_gone_is_a_loss() -> None:
    """Its id was answered, and the server does not know it."""
    assert found(evidence(asked())) == [Violation.LOST, Violation.UNEXPLAINED]


def test_a_call_that_is_never_answered_is_a_loss() -> None:
    """Nothing is stored either."""
    assert found(evidence(asked(states=()))) == [Violation.LOST]


def test_a_call_that_its_caller_has_dropped_needs_no_answer() -> None:
    """It may never have arrived."""
    assert found(evidence(asked(states=(), kind=Kind.ABANDON))) == []
    request = asked(states=(), kind=Kind.RETRIED)
    assert found(evidence(request)) == [Violation.LOST]
    request.gave_up = True
    assert found(evidence(request)) == []


def test_a_generation_that_is_not_listed_is_a_loss() -> None:
    """It can be read by its id alone."""
    assert found(evidence(asked(), stored(succeeded()), listed=[])) == [Violation.LOST]


def test_a_generation_that_is_listed_twice_is_a_wrong_number() -> None:
    """Two pages have it."""
    twice = evidence(asked(), stored(succeeded()), listed=[_ID, _ID])
    assert found(twice) == [Violation.WRONG_NUMBER]


def test_one_request_id_with_two_generations_is_a_duplicate() -> None:
    """Both are whole."""
    other = succeeded()
    other.id, other.outputs[0].artifact.id = "g2", "a2"
    both = evidence(asked(), stored(succeeded()), stored(other))
    assert found(both) == [Violation.DUPLICATED]
    other.request_id = "made-by-the-server"
    both = evidence(asked(kind=Kind.RETRIED), stored(succeeded()), stored(other))
    assert found(both) == [Violation.DUPLICATED]


def test_an_order_that_is_sent_again_is_paid_twice() -> None:
    """The receipt has one of the two, which is a wrong number besides."""
    generation = succeeded()
    generation.receipt.cost.amount = 0.01
    twice = evidence(
        asked(engine=PAID), stored(generation), orders={_REQUEST: Orders(accepted=2, billed=2)}
    )
    assert found(twice) == [Violation.PAID_TWICE, Violation.WRONG_NUMBER]
    once = replace(twice, orders={_REQUEST: Orders(accepted=2, billed=1)})
    assert found(once) == []


@pytest.mark.parametrize(
    ("outcome", "known"), [("VENDOR_MAY_BILL REQUESTED", False), ("STOPPED REQUESTED", True)]
)
def test_a_receipt_lacks_what_was_billed_only_where_the_end_says_so(
    outcome: str, *, known: bool
) -> None:
    """A server that was killed before the cancellation cannot know what the service has done."""
    request = asked(engine=PAID, kind=Kind.CANCEL)
    request.lost_cancels = 1
    billed = {_REQUEST: Orders(accepted=1, billed=1)}
    expected = [Violation.WRONG_NUMBER] if known else []
    assert found(evidence(request, ended("CANCELLED", outcome), orders=billed)) == expected


@pytest.mark.parametrize(
    "log",
    [
        (*LOG[:2], replace(LOG[2], sequence=4), replace(LOG[3], sequence=5)),
        (LOG[0], LOG[1], LOG[1], *LOG[2:]),
        (*LOG[:2], replace(LOG[2], progress=0.5), event(4, progress=0.3), event(5, "SUCCEEDED")),
        (*LOG[:3], event(4, "FAILED")),
        (*LOG, event(5, "SUCCEEDED")),
        (*LOG[:3], event(4, "SUCCEEDED", progress=1.5)),
    ],
    ids=["skipped", "repeated", "progress back", "another end", "two ends", "no fraction"],
)
def test_a_wrong_log_is_reported(log: tuple[SeenEvent, ...]) -> None:
    """Also where a watcher saw the same."""
    assert Violation.WRONG_NUMBER in found(evidence(asked(), stored(succeeded(), log)))


@pytest.mark.parametrize(
    ("after", "events"),
    [
        (0, (LOG[0], *LOG[2:])),
        (1, LOG),
        (0, (*LOG[:2], replace(LOG[2], progress=0.4), LOG[3])),
        (0, LOG[:2]),
    ],
    ids=["skipped", "repeated after attaching", "another event", "ended early"],
)
def test_a_wrong_stream_is_reported(after: int, events: tuple[SeenEvent, ...]) -> None:
    """The log is right, and one watcher saw something else."""
    stream = Stream(generation_id=_ID, after=after, events=list(events), completed=True)
    wrong = evidence(asked(), stored(succeeded()), streams=[stream])
    assert set(found(wrong)) == {Violation.WRONG_NUMBER}


def test_what_callers_hung_up_on_may_end_as_cancelled_and_run_again() -> None:
    """Its events continue in number, and QUEUED replaces the end; without a hang-up that is wrong."""
    waits = [event(4, "QUEUED"), event(5, "QUEUED"), event(6, attempt=2), event(7, "SUCCEEDED")]
    log = (*LOG[:3], *waits)
    cancelled = event(4, "CANCELLED", progress=0.5)
    early = Stream(generation_id=_ID, after=0, events=[*LOG[:3], cancelled], completed=True)
    again = evidence(asked(kind=Kind.HANG_UP), stored(succeeded(), log), streams=[early])
    assert found(again) == []
    assert found(replace(again, asked={_REQUEST: asked()})) == [Violation.WRONG_NUMBER]
    kept = stored(succeeded(), (*LOG[:3], cancelled, *waits[1:]))
    wrong = evidence(asked(kind=Kind.HANG_UP), kept, streams=[early])
    assert found(wrong) == [Violation.WRONG_NUMBER]


def test_a_watcher_who_leaves_early_has_seen_enough() -> None:
    """What it saw is a part of the log."""
    stream = Stream(generation_id=_ID, after=1, events=list(LOG[1:3]))
    assert found(evidence(asked(), stored(succeeded()), streams=[stream])) == []


def test_a_damaged_output_is_reported() -> None:
    """The bytes are not those of the record; nor is the file."""
    made = replace(stored(succeeded()), output_digests=("1" * 64,))
    damaged = evidence(asked(), made, files={"a1": "1" * 64})
    assert found(damaged) == [Violation.WRONG_NUMBER, Violation.LOST]


def test_a_file_that_no_record_names_is_reported() -> None:
    """What an abandoned attempt has written is to be deleted."""
    left = evidence(asked(), stored(succeeded()), files={"a1": _DIGEST, "left": _DIGEST})
    assert found(left) == [Violation.UNEXPLAINED]


@pytest.mark.parametrize(
    "numbers", [[], [2], [1, 1], [1, 3]], ids=["none", "second alone", "one twice", "one missing"]
)
def test_wrong_attempts_are_reported(numbers: list[int]) -> None:
    """A receipt counts its attempts from 1, and exactly the last has succeeded."""
    generation = succeeded()
    del generation.receipt.attempts[:]
    for number in numbers:
        generation.receipt.attempts.add(
            number=number, outcome=AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
        )
    if numbers:
        last = generation.receipt.attempts[-1]
        last.outcome = AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED
    reported = find_violations(evidence(asked(), stored(generation)))
    assert {finding.violation for finding in reported} == {Violation.WRONG_NUMBER}


@pytest.mark.parametrize(
    ("end", "request_fields", "explained"),
    [
        (("FAILED", "ENGINE_FAILED"), {}, False),
        (("FAILED", "ENGINE_FAILED"), {"kind": Kind.FAIL}, True),
        (("FAILED", "DEADLINE_EXCEEDED"), {}, False),
        (("FAILED", "DEADLINE_EXCEEDED"), {"kind": Kind.TIME_OUT}, True),
        (("FAILED", "INTERNAL"), {"kind": Kind.FAIL}, False),
        (("CANCELLED", "STOPPED REQUESTED"), {}, False),
        (("CANCELLED", "STOPPED CALLERS_LOST"), {"kind": Kind.HANG_UP_ACCEPTED}, False),
        (("CANCELLED", "STOPPED CALLERS_LOST"), {"kind": Kind.HANG_UP}, False),
        (("CANCELLED", "STOPPED CALLERS_LOST"), {"kind": Kind.ABANDON}, True),
        (("CANCELLED", "STOPPED REQUESTED"), {"kind": Kind.ABANDON}, False),
        (("CANCELLED", "VENDOR_MAY_BILL CALLERS_LOST"), {"kind": Kind.ABANDON}, False),
    ],
)
def test_an_end_needs_its_cause(
    end: tuple[str, str], request_fields: dict[str, Any], *, explained: bool
) -> None:
    """No cause of the table, and the state is unexplained."""
    request = asked(**request_fields)
    request.hang_ups = 2
    expected = [] if explained else [Violation.UNEXPLAINED]
    assert found(evidence(request, ended(*end))) == expected


@pytest.mark.parametrize("kills", [0, 2, 3])
def test_only_as_many_kills_as_attempts_explain_poisoned(kills: int) -> None:
    """Drains do not count, nor what happened after the end; nor do attempts without a kill."""
    times = [_ACCEPTED + 2.0 + number for number in range(kills)]
    done = [Disturbance(kind=KILL, at=at) for at in [*times, _ACCEPTED + 60.0]]
    done.append(Disturbance(kind=DRAIN, at=_ACCEPTED + 3.0))
    made = ended("FAILED", "POISONED")
    del made.generation.receipt.attempts[:]
    for number in (1, 2, 3):
        abandoned = AttemptOutcome.ATTEMPT_OUTCOME_ABANDONED
        made.generation.receipt.attempts.add(number=number, outcome=abandoned)
    expected = [] if kills == 3 else [Violation.UNEXPLAINED, Violation.WRONG_NUMBER]
    assert found(evidence(asked(), made, disturbances=done)) == expected


def test_answers_agree_with_the_record() -> None:
    """What a call was told is what the record says."""
    request = asked(states=("SUCCEEDED",), kind=Kind.FAIL)
    assert found(evidence(request, ended("FAILED", "ENGINE_FAILED"))) == [Violation.UNEXPLAINED]
    request = asked()
    request.answers.append(Answer(generation_id=_ID, reason="INTERNAL", code="INTERNAL"))
    assert found(evidence(request, stored(succeeded()))) == [Violation.UNEXPLAINED]


def test_a_confirmed_cancellation_holds() -> None:
    """Confirmed as stopped, and yet it succeeded."""
    request = asked(kind=Kind.CANCEL)
    request.cancels.append(CancelOutcome.CANCEL_OUTCOME_STOPPED)
    assert found(evidence(request, stored(succeeded()))) == [Violation.UNEXPLAINED]
    assert found(evidence(request, ended("CANCELLED", "STOPPED REQUESTED"))) == []


def test_an_error_in_the_log_is_reported() -> None:
    """A full disk is logged as one, and explained."""
    logged = frozenset({"storage_failed", "internal_error"})
    wrong = evidence(asked(), stored(succeeded()), logged=logged)
    assert found(wrong) == [Violation.UNEXPLAINED]


def test_an_error_without_an_explanation_is_reported() -> None:
    """Calls are repeated after it, and that they were is no excuse."""
    errors = {"UNAVAILABLE": "no connection", "INTERNAL": "the server failed"}
    wrong = evidence(asked(), stored(succeeded()), errors=errors)
    assert found(wrong) == [Violation.UNEXPLAINED]


def test_every_cause_explains_an_end() -> None:
    """The table has no cause that nothing needs."""
    assert set().union(*EXPLAINED.values()) == set(Cause)


def test_the_page_has_the_table() -> None:
    """docs/siege.md lists the same ends with the same causes, and no others."""
    rows = {
        f"| {state} | {f'{reason} ' if reason else ''}| "
        + "; or ".join(cause.value for cause in Cause if cause in causes)
        + " |"
        for (state, reason), causes in EXPLAINED.items()
    }
    page = (ROOT / "docs" / "siege.md").read_text().splitlines()
    start = page.index("| state | reason, or outcome and cause | only if |")
    assert rows == set(page[start + 2 : page.index("", start)])


def test_a_seed_plans_the_same_generations() -> None:
    """Another seed plans others; every kind occurs."""
    assert plan(300, 1) == plan(300, 1)
    assert plan(300, 1) != plan(300, 2)
    assert {one.kind for one in plan(300, 1)} == set(Kind)
