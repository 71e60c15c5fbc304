"""The outcome of a cancellation, by what happened to the work and whether it may cost money."""

from __future__ import annotations

import pytest

from atelier.v1.generation_pb2 import CancelOutcome
from atelier_engines.capabilities import CancelSupport, Capabilities, Price, PriceUnit
from atelier_engines.closing import Closing, Stop, combine
from atelier_server.execution.cancel_outcomes import describe_stop, find_left

PRICE = Price(amount=0.01, unit=PriceUnit.IMAGE)
LOCAL = Capabilities(description="in the process", price=PRICE)
OWN = Capabilities(description="a server of one's own", cancel=CancelSupport.REMOTE)
PRICED = Capabilities(description="with a price", cancel=CancelSupport.REMOTE, price=PRICE)
BILLED = Capabilities(description="a hosted service", cancel=CancelSupport.NONE, billed=True)
NEVER_STARTED = CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
STOPPED = CancelOutcome.CANCEL_OUTCOME_STOPPED
MAY_BILL = CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
MAY_GO_ON = CancelOutcome.CANCEL_OUTCOME_MAY_GO_ON


@pytest.mark.parametrize(
    ("capabilities", "stop", "begun", "outcome"),
    [
        (LOCAL, None, True, STOPPED),
        (LOCAL, None, False, STOPPED),
        (OWN, Stop.NEVER_STARTED, True, NEVER_STARTED),
        (OWN, Stop.STOPPED, True, STOPPED),
        (OWN, Stop.MAY_GO_ON, True, MAY_GO_ON),
        (OWN, Stop.ENDED, True, MAY_GO_ON),
        (OWN, None, True, MAY_GO_ON),
        (OWN, None, False, NEVER_STARTED),
        (PRICED, Stop.MAY_GO_ON, True, MAY_BILL),
        (PRICED, Stop.ENDED, True, MAY_BILL),
        (PRICED, Stop.STOPPED, True, STOPPED),
        (BILLED, None, True, MAY_BILL),
        (BILLED, Stop.NEVER_STARTED, True, NEVER_STARTED),
        (BILLED, None, False, NEVER_STARTED),
    ],
)
def test_the_outcome_says_what_happened(
    capabilities: Capabilities, stop: Stop | None, outcome: CancelOutcome.ValueType, *, begun: bool
) -> None:
    """A bill is mentioned only where one is possible."""
    assert describe_stop(capabilities, stop, begun=begun) == outcome


def test_several_jobs_have_the_outcome_of_the_one_that_went_furthest() -> None:
    """None of them is none that was begun."""
    assert combine([]) is Stop.NEVER_STARTED
    assert combine([Stop.NEVER_STARTED, Stop.STOPPED]) is Stop.STOPPED
    assert combine([Stop.STOPPED, Stop.ENDED, Stop.NEVER_STARTED]) is Stop.ENDED
    assert combine([Stop.STOPPED, Stop.MAY_GO_ON, Stop.ENDED]) is Stop.MAY_GO_ON


@pytest.mark.parametrize(
    ("capabilities", "closing", "left"),
    [
        (OWN, None, None),
        (OWN, Closing(left="job"), "job"),
        (OWN, Closing(left=""), ""),
        (OWN, Closing(), ""),
        (BILLED, Closing(), None),
    ],
)
def test_the_next_attempt_continues_with_what_is_left(
    capabilities: Capabilities, closing: Closing | None, left: str | None
) -> None:
    """An engine that says nothing has stopped its job, if it can; None is what was stored before."""
    assert find_left(capabilities, closing) == left
