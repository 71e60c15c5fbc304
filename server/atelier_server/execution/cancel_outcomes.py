"""What the cancellation of a running generation says, by what happened to its work."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1.generation_pb2 import CancelOutcome
from atelier_engines.capabilities import CancelSupport, Capabilities
from atelier_engines.closing import Stop
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
    if stop is None or stop is Stop.MAY_GO_ON:
        return UNSTOPPED_OUTCOMES[capabilities.may_cost]
    return _OUTCOMES[stop]
