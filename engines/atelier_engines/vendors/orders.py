"""The jobs of one task: which are ordered, what is known of their ends, and all of that as a handle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, JsonValue

from atelier_engines.closing import Stop, combine
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUncertainError,
)

JobT = TypeVar("JobT", bound=BaseModel)
_GONE = frozenset({Stop.NEVER_STARTED, Stop.STOPPED})


class _Handle(BaseModel):
    """What is stored of the jobs of a task."""

    jobs: tuple[JsonValue, ...] = ()
    """Accepted jobs, in the order of the task's seeds; None for one that is to be ordered, also at the end."""
    sending: bool = False
    """Whether a request for the next job may be on its way."""
    told: tuple[int, ...] = ()
    """Numbers of the jobs that the service was told to cancel, and that may go on all the same."""


@dataclass(slots=True, kw_only=True)
class Orders(Generic[JobT]):
    """The jobs of one task, by number: that of their seed, from 0."""

    jobs: list[JobT | None]
    """None for one that is to be ordered."""
    sending: bool = False
    """Whether the service may have accepted a job more."""
    told: set[int] = field(default_factory=set)
    """Jobs that the service was told to cancel, and that may go on all the same."""
    ended: set[int] = field(default_factory=set)
    """Jobs that have ended by themselves."""
    delivered: set[int] = field(default_factory=set)
    """Those of them whose image was fetched."""

    @classmethod
    def parse(cls, handle: str, job_type: type[JobT], count: int) -> Self:
        """The jobs that the handle of an earlier attempt names, of `count` in all; none if it is empty.

        Raises:
            EngineFailedError: the text is invalid.
        """
        try:
            found = _Handle.model_validate_json(handle or "{}")
            known = [None if job is None else job_type.model_validate(job) for job in found.jobs]
        except ValueError as error:
            raise _lost() from error
        if len(known) > count:
            raise _lost()
        jobs = [*known, *[None] * (count - len(known))]
        return cls(jobs=jobs, sending=found.sending, told={*found.told})

    @property
    def missing(self) -> list[int]:
        """Numbers of the jobs that are to be ordered."""
        return [number for number, job in enumerate(self.jobs) if job is None]

    @property
    def running(self) -> Mapping[int, JobT]:
        """The jobs that are not known to have ended."""
        jobs = enumerate(self.jobs)
        return {number: job for number, job in jobs if job is not None and number not in self.ended}

    def dump(self, *, sending: bool = False) -> str:
        """The handle as text."""
        jobs = tuple(None if job is None else job.model_dump(mode="json") for job in self.jobs)
        told = tuple(sorted(self.told))
        return _Handle(jobs=jobs, sending=sending, told=told).model_dump_json()

    def require_answered(self, vendor: str) -> None:
        """Return if every request that was sent has been answered.

        Raises:
            EngineUncertainError: the earlier attempt ended before the answer to one.
        """
        if self.sending:
            raise EngineUncertainError(
                f"an earlier attempt ended while a request to {vendor} was on its way; {vendor} may have accepted "
                "and billed it, so it is not sent again; to pay once more, use another request id"
            )

    def record_answer(self, number: int, answer: asyncio.Future[JobT]) -> None:
        """Record the job, or that there is none: an error tells so, unless it leaves that open."""
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        if error is None:
            self.jobs[number] = answer.result()
        refused = isinstance(error, EngineError) and not isinstance(
            error, EngineUncertainError | EngineTimeoutError
        )
        self.sending = not (error is None or refused)

    def forget(self, number: int) -> bool:
        """Forget a job that is gone; whether the service was told to cancel it, so that it may be ordered anew."""
        told = number in self.told
        self.jobs[number] = None
        self.told.discard(number)
        self.ended.discard(number)
        return told

    def leave(self, stops: Mapping[int, Stop], *, told: bool) -> tuple[Stop, str]:
        """What became of all jobs, and the handle of what another run can resume; empty for nothing.

        Args:
            stops: what became of the jobs that had not ended.
            told: whether the service was told to cancel them.
        """
        for number, stop in stops.items():
            if stop in _GONE:
                self.jobs[number] = None
                self.told.discard(number)
            elif stop is Stop.MAY_GO_ON and told:
                self.told.add(number)
        found = [*stops.values(), *[Stop.STOPPED] * len(self.delivered)]
        found += [Stop.ENDED] * len(self.ended - self.delivered)
        found += [Stop.MAY_GO_ON] * self.sending
        anything = self.sending or len(self.missing) < len(self.jobs)
        return combine(found), self.dump(sending=self.sending) if anything else ""


def _lost() -> EngineFailedError:
    return EngineFailedError("the jobs of an earlier attempt are lost: bad handle")
