"""The conditions under which a submission is accepted, in one list for submissions and for plans."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from atelier_server.engines.status import EngineStatus, EngineStatuses
from atelier_server.errors import (
    DeadlineUnattainableError,
    DrainingError,
    QueueFullError,
    ServiceError,
    StorageError,
)
from atelier_server.estimates.service_times import Estimate, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """What the gates look at: a submission, and the engine selected for it."""

    engine: EngineStatus
    """The engine that would execute it."""
    statuses: EngineStatuses
    """All engines."""
    draining: bool
    """Whether the server is shutting down."""
    storage_message: str
    """Why nothing new can be stored; empty if it can."""
    caller: str
    """Who submits."""
    batch: bool
    """Whether it has the priority BATCH."""
    queue_depth: Callable[[], Awaitable[int]]
    """Counts the generations in the engine's queue, as far as they keep this one out of it."""

    def estimate_wait(self) -> Estimate:
        """How long it waits in the engine's queue."""
        return self.statuses.estimate_wait(self.engine, self.caller, batch=self.batch)


Gate = Callable[[Applicant], Awaitable[None]]
"""Returns if the submission may pass; raises a ServiceError if not."""


async def require_admission(applicant: Applicant) -> None:
    """Return if the submission may go to the store, which checks the queue's length when it writes.

    Raises:
        ServiceError: the first gate that is closed.
    """
    for gate in _GATES:
        await gate(applicant)


async def find_rejection(
    applicant: Applicant, work: Work, seconds_left: float | None
) -> ServiceError | None:
    """The error that a submission would end with now; None if it would be accepted."""
    try:
        await require_admission(applicant)
        require_attainable_deadline(applicant, work, seconds_left)
        await _require_queue_space(applicant)
    except ServiceError as error:
        return error
    return None


def require_attainable_deadline(
    applicant: Applicant, work: Work, seconds_left: float | None
) -> None:
    """Return unless the work can't end in time, however well it goes. None for no deadline.

    Raises:
        DeadlineUnattainableError: it can't.
    """
    if seconds_left is None:
        return
    engine = applicant.engine
    wait = applicant.estimate_wait().least
    needed = wait + engine.times.estimate(work, time.monotonic()).least
    if needed > seconds_left:
        msg = (
            f"engine {engine.name!r} needs at least {needed:.1f} s, including {wait:.1f} s in its queue; "
            f"{seconds_left:.1f} s are left: allow more time"
        )
        raise DeadlineUnattainableError(msg)


async def _require_serving(applicant: Applicant) -> None:
    if applicant.draining:
        msg = "the server is shutting down; retry, and another server may answer"
        raise DrainingError(msg)


async def _require_storage(applicant: Applicant) -> None:
    if applicant.storage_message:
        raise StorageError(applicant.storage_message)


async def _require_able(applicant: Applicant) -> None:
    rejection = applicant.engine.find_rejection()
    if rejection is not None:
        raise rejection


async def _require_queue_space(applicant: Applicant) -> None:
    engine = applicant.engine
    queued = await applicant.queue_depth()
    if queued >= engine.queue_limit:
        msg = f"the queue of engine {engine.name!r} is full: {queued} generations wait"
        raise QueueFullError(msg)


_GATES: tuple[Gate, ...] = (
    _require_serving,
    _require_storage,
    _require_able,
)
