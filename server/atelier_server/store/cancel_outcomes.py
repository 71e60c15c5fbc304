"""How the cancellation of a generation ends that nobody can stop any more."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1.generation_pb2 import CancelOutcome

UNSTOPPED_OUTCOMES: Mapping[bool, CancelOutcome.ValueType] = {
    True: CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL,
    False: CancelOutcome.CANCEL_OUTCOME_MAY_GO_ON,
}
"""How the cancellation of a generation ends whose remote job may go on, by whether that may cost money."""


def outcome_of_crash(*, stopped: bool, may_cost: bool) -> CancelOutcome.ValueType:
    """The outcome for work that was to be cancelled when its process died; `stopped` if it ended with the process."""
    return CancelOutcome.CANCEL_OUTCOME_STOPPED if stopped else UNSTOPPED_OUTCOMES[may_cost]


def outcome_of_waiting(*, has_job: bool, may_cost: bool) -> CancelOutcome.ValueType:
    """The outcome for a generation that waits; `has_job` if the remote job of an earlier attempt goes on."""
    return UNSTOPPED_OUTCOMES[may_cost] if has_job else CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
