"""What the cancellation of a running generation says, by what happened to its work."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1.generation_pb2 import CancelOutcome
from atelier_engines.capabilities import CancelSupport, Capabilities
from atelier_engines.closing import Closing, Stop
from atelier_server.store.cancel_outcomes import UNSTOPPED_OUTCOMES

_OUTCOMES: Mapping[Stop, CancelOutcome.ValueType] = {
    Stop.NEVER_STARTED: CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED,
    Stop.STOPPED: CancelOutcome.CANCEL_OUTCOME_STOPPED,
}


def describe_stop(
    capabilities: Capabilities, stop: Stop | None, *, begun: bool
) -> CancelOutcome.ValueType:
    """The outcome for a run that was closed.

    Args:
        capabilities: of the engine.
        stop: what the engine says about its work; None where it says nothing.
        begun: whether the engine was given the task, or a job of it is known.
    """
    if stop is None and capabilities.cancel is CancelSupport.STEP:
        stop = Stop.STOPPED
    elif not begun:
        stop = Stop.NEVER_STARTED
    if stop is None or stop in {Stop.MAY_GO_ON, Stop.ENDED}:
        return UNSTOPPED_OUTCOMES[capabilities.may_cost]
    return _OUTCOMES[stop]


def find_left(capabilities: Capabilities, closing: Closing | None) -> str | None:
    """The handle of what is left of the remote jobs of a run that was closed; None where that is what it was before."""
    if closing is None:  # nobody has touched a job
        return None
    if closing.left is None and capabilities.cancel is not CancelSupport.NONE:
        return ""
    return closing.left
