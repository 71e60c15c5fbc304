"""Compares what callers and watchers saw with what the server has: every violation of what it promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from atelier.v1.generation_pb2 import CancelOutcome
from tests.siege.explained import (
    EXPLAINED,
    LOGGED,
    REFUSED,
    REPEATED,
    Cause,
    causes_of,
    count_abandoned,
    count_kills,
    end_of,
)
from tests.siege.numbers import check_numbers, check_stream
from tests.siege.plan import Kind
from tests.siege.recorder import ENDED, Asked, Disturbance, Stream
from tests.siege.server import PRICE
from tests.siege.stored import Orders, StoredGeneration


class Violation(Enum):
    """What the server has promised not to do."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    PAID_TWICE = "paid twice"
    WRONG_NUMBER = "wrong numbers"
    UNEXPLAINED = "unexplained states"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One violation."""

    violation: Violation
    subject: str
    """Request id, or the id of a generation that no request explains."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that is known when the siege is over."""

    asked: Mapping[str, Asked]
    """By request id."""
    streams: Sequence[Stream]
    disturbances: list[Disturbance]
    stored: Mapping[str, StoredGeneration]
    """By id."""
    listed: Sequence[str]
    """Ids as ListGenerations gave them."""
    orders: Mapping[str, Orders]
    """Orders at the remote service, by request id."""
    files: Mapping[str, str]
    """SHA-256 of the files of artifacts, by name."""
    errors: Mapping[str, str]
    """Errors after which calls were repeated, by code and reason, with the text of the first."""
    logged: frozenset[str]
    """Events that the server has logged as errors."""


def find_violations(evidence: Evidence) -> list[Finding]:
    """Every violation, in the order of the requests."""
    by_request: dict[str, list[StoredGeneration]] = defaultdict(list)
    for stored in evidence.stored.values():
        by_request[stored.request_id].append(stored)
    findings = [
        Finding(violation=violation, subject=request_id, text=text)
        for request_id, asked in evidence.asked.items()
        for violation, text in _check_request(evidence, asked, by_request[request_id])
    ]
    findings += _check_lists(evidence)
    findings += _check_streams(evidence)
    findings += _check_files(evidence)
    findings += _check_errors(evidence)
    return findings


_Found = Iterator[tuple[Violation, str]]


def _check_request(evidence: Evidence, asked: Asked, made: Sequence[StoredGeneration]) -> _Found:
    """Violations in what became of one request."""
    ids = {one.generation.id for one in made}
    promised = {answer.generation_id for answer in asked.answers if answer.generation_id}
    if not (asked.answers or asked.gave_up or asked.planned.kind is Kind.ABANDON):
        yield Violation.LOST, "no call for it was ever answered"
    for lost in sorted(promised - ids):
        yield Violation.LOST, f"generation {lost} was promised, and does not exist"
    if len(ids | promised) > 1:
        yield Violation.DUPLICATED, f"one request id, generations {sorted(ids | promised)}"
    orders = evidence.orders.get(asked.planned.request_id, Orders(accepted=0, billed=0))
    if orders.billed > asked.planned.images:
        text = f"{orders.billed} billed orders for {asked.planned.images} images"
        yield Violation.PAID_TWICE, text
    for one in made:
        yield from _check_end(evidence, asked, one)
        yield from _check_money(one, orders)
        for text in check_numbers(asked.planned, one):
            yield Violation.WRONG_NUMBER, text
    if not made:
        yield from _check_refusal(evidence, asked)


def _check_end(evidence: Evidence, asked: Asked, stored: StoredGeneration) -> _Found:
    """Violations in the state that a generation has at the end."""
    end = end_of(stored.generation)
    if end[0] not in ENDED:
        yield Violation.LOST, f"{stored.generation.id} has not ended: it is {end[0]}"
        return
    causes = causes_of(asked, stored.generation, evidence.disturbances)
    if not causes & EXPLAINED.get(end, frozenset()):
        yield Violation.UNEXPLAINED, f"{_describe(end)}, {_describe_causes(causes)}"
    for answer in asked.answers:
        if answer.reason and answer.reason not in {end[1], end[0]}:
            text = f"answered {answer.code} {answer.reason}, and ended as {_describe(end)}"
            yield Violation.UNEXPLAINED, text
        if answer.code and not answer.reason:
            yield Violation.UNEXPLAINED, f"a call ended with {answer.code} without a reason"
        if answer.state in ENDED and answer.state != end[0]:
            yield Violation.UNEXPLAINED, f"answered as {answer.state}, and is {end[0]}"
    yield from _check_cancellations(asked, end[0])
    abandoned = count_abandoned(stored.generation)
    kills = count_kills(stored.generation, evidence.disturbances)
    if abandoned > kills:
        yield Violation.WRONG_NUMBER, f"{abandoned} attempts abandoned by {kills} kills"


def _check_cancellations(asked: Asked, state: str) -> _Found:
    """Whether the answers to cancellations are true."""
    too_late = CancelOutcome.CANCEL_OUTCOME_TOO_LATE
    for outcome in asked.cancels:
        if outcome != too_late and state != "CANCELLED":
            text = f"cancelled as {CancelOutcome.Name(outcome)}, and is {state}"
            yield Violation.UNEXPLAINED, text
        if outcome == too_late and state == "CANCELLED" and not asked.lost_cancels:
            yield Violation.UNEXPLAINED, "too late to cancel, and CANCELLED"


def _check_refusal(evidence: Evidence, asked: Asked) -> _Found:
    """Whether a request that made no generation was refused for a reason."""
    causes = causes_of(asked, None, evidence.disturbances)
    for answer in asked.answers:
        if not causes & REFUSED.get(answer.reason, frozenset()):
            text = f"refused with {answer.code} {answer.reason}, {_describe_causes(causes)}"
            yield Violation.UNEXPLAINED, text


_COST_UNKNOWN = frozenset(
    {
        ("FAILED", "ENGINE_UNCERTAIN"),
        ("CANCELLED", "VENDOR_MAY_BILL REQUESTED"),
        ("CANCELLED", "VENDOR_MAY_BILL CALLERS_LOST"),
    }
)


def _check_money(stored: StoredGeneration, orders: Orders) -> _Found:
    """Whether the receipt has what was paid; whether cancelled orders are billed is up to the service.

    Two ends say that it may lack some: the server was killed, and cannot know what its orders cost.
    """
    cost = stored.generation.receipt.cost.amount
    least, most = orders.billed * PRICE, orders.accepted * PRICE
    uncertain = end_of(stored.generation) in _COST_UNKNOWN
    if not least - PRICE / 2 < cost < most + PRICE / 2 and not uncertain:
        end = _describe(end_of(stored.generation))
        text = f"{orders} at {PRICE} each, and a receipt over {cost} ({end})"
        yield Violation.WRONG_NUMBER, text


def _check_lists(evidence: Evidence) -> Iterator[Finding]:
    """Violations of ListGenerations: each generation once, and none that nobody asked for."""
    for generation_id, count in Counter(evidence.listed).items():
        if count > 1:
            text = f"listed {count} times"
            yield Finding(violation=Violation.WRONG_NUMBER, subject=generation_id, text=text)
    for generation_id, stored in evidence.stored.items():
        if generation_id not in evidence.listed:
            text = "it exists, and is not listed"
            yield Finding(violation=Violation.LOST, subject=generation_id, text=text)
        if stored.request_id not in evidence.asked:
            text = "nobody asked for it"
            yield Finding(violation=Violation.UNEXPLAINED, subject=generation_id, text=text)


def _check_streams(evidence: Evidence) -> Iterator[Finding]:
    """Violations in what streams delivered, compared with the stored events."""
    for stream in evidence.streams:
        stored = evidence.stored.get(stream.generation_id)
        if stored is None:
            continue  # its request reports the loss
        request_id = stored.request_id
        if request_id not in evidence.asked:
            continue  # the lists report it
        for text in check_stream(evidence.asked[request_id].planned, stream, stored.log):
            yield Finding(violation=Violation.WRONG_NUMBER, subject=request_id, text=text)


def _check_files(evidence: Evidence) -> Iterator[Finding]:
    """Whether every output's file is whole, and no other file is left."""
    named: set[str] = set()
    for stored in evidence.stored.values():
        for output in stored.generation.outputs:
            named.add(output.artifact.id)
            if evidence.files.get(output.artifact.id) != output.artifact.sha256:
                text = f"the file of {output.artifact.id} is missing, or not that of the record"
                subject = stored.request_id
                yield Finding(violation=Violation.LOST, subject=subject, text=text)
    for left in sorted(evidence.files.keys() - named):
        text = "no record names this file"
        yield Finding(violation=Violation.UNEXPLAINED, subject=left, text=text)


def _check_errors(evidence: Evidence) -> Iterator[Finding]:
    """Errors that callers must not get, or that the server must not log."""
    wrong = [
        f"a call ended with {name}: {text}"
        for name, text in evidence.errors.items()
        if name not in REPEATED
    ]
    wrong += [f"the log has the error {event}" for event in sorted(evidence.logged - LOGGED)]
    for text in wrong:
        yield Finding(violation=Violation.UNEXPLAINED, subject="the server", text=text)


def _describe(end: tuple[str, str]) -> str:
    return " ".join(end).strip()


def _describe_causes(causes: frozenset[Cause]) -> str:
    if not causes:
        return "though nothing was done to it"
    return "though this alone is true: " + "; ".join(sorted(cause.value for cause in causes))
