"""Jobs at remote services, one an image: submitted at most once, polled until they end, found again by the handle."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, Self, TypeVar

from pydantic import BaseModel, JsonValue

from atelier_engines.closing import Stop, combine, keeps_job, ordering, report_stop
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.task import ImageTask
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline

JobT = TypeVar("JobT", bound=BaseModel)
"""What a service says about an accepted job: all that is needed to find it again."""
ResponseT = TypeVar("ResponseT")
"""What a service says about the status of a job."""
ConfigT = TypeVar("ConfigT")

_BACKOFF_FACTOR = 1.5
_MAX_BACKOFF = 5.0
_MAX_CONSECUTIVE_ERRORS = 3
_CANCEL_TIMEOUT_SECONDS = 5.0
_LATE_ANSWER_SECONDS = 1.0


class JobState(Enum):
    """Whether a job has ended."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus(Generic[ResponseT]):
    """The status of a job, translated from the service's own."""

    response: ResponseT
    """The service's own status."""
    state: JobState = JobState.ACTIVE
    """Whether the job has ended; a status that the service does not have today is ACTIVE."""
    stage: Stage | None = None
    """Stage that the job is in; None where the status says nothing new."""
    steps: int = 0
    """Steps of this job that are done; 0 while unknown."""
    timeout_reason: str = ""
    """Why the job has not ended, should the deadline pass now; empty where the service does not say."""


class JobApi(Protocol[JobT, ResponseT]):
    """The jobs of one task at one service. Every method raises EngineError."""

    @property
    def job_type(self) -> type[JobT]:
        """Model of an accepted job, for the handle."""

    @property
    def client(self) -> VendorClient:
        """Client of the service."""

    @property
    def task(self) -> ImageTask:
        """Task to run; its `resume` is a handle of `run_jobs`."""

    @property
    def deadline(self) -> Deadline:
        """Deadline of the whole task."""

    @property
    def steps(self) -> int:
        """Denoising steps in each job; 0 where they are not counted."""

    def submit(self, seeds: Sequence[int]) -> AsyncGenerator[JobT]:
        """Submit a job for each seed, in order and at most once, and yield each when it is accepted."""

    async def status(self, job: JobT) -> JobStatus[ResponseT]:
        """The status of a job.

        Raises:
            EngineFailedError: the service does not know the job, or its response is invalid.
        """

    async def result(self, job: JobT, status: JobStatus[ResponseT], seed: int) -> Output:
        """The image of a job that has ended with `status`; raises why there is none."""

    async def cancel(self, job: JobT) -> Stop:
        """Ask the service to cancel a job, and say what became of it; MAY_GO_ON where it has no such request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskJobs(Generic[ConfigT]):
    """What every JobApi holds."""

    client: VendorClient
    """Client of the service."""
    config: ConfigT
    """Configuration of the engine."""
    task: ImageTask
    """Task to run."""
    deadline: Deadline
    """Deadline of the whole task."""

    @property
    def steps(self) -> int:
        """See JobApi.steps."""
        return self.task.steps or 0


async def run_jobs(
    api: JobApi[JobT, ResponseT],
    *,
    poll_seconds: float,
    grace_seconds: float = 0.0,
    max_polls: int | None = None,
) -> AsyncGenerator[Event]:
    """Run the task as one job a seed; closing it cancels the jobs that have not ended, unless they are to be kept.

    Dispatched stores that a request will be sent before it is, and the job once it is accepted. With
    `task.resume`, the jobs of the earlier attempt are polled, and only those that are missing are submitted.

    Args:
        api: the jobs of the task.
        poll_seconds: initial interval between two polls; it grows to five times that.
        grace_seconds: a job that the service does not know is lost only after this time.
        max_polls: polls after which a job that has not ended is given up; None for as many as the deadline allows.

    Raises:
        EngineUncertainError: it is unknown whether a job was accepted, also because the earlier attempt
            ended while its request was on the way.
        EngineFailedError: a job failed or is lost, or the handle is invalid.
        EngineTimeoutError: the deadline passed.
        EngineError: what the methods of `api` raise.
    """
    seeds = api.task.seeds
    ended, delivered, progress = 0, 0, _Progress(steps=api.steps, jobs=len(seeds))
    found = _Handle.parse(api.task.resume)
    jobs = found.read_jobs(api.job_type)
    sent = len(jobs)
    try:
        yield Stage(name="submit")
        found.require_answered(api.client.name)
        async with aclosing(api.submit(seeds[len(jobs) :])) as accepted:
            while len(jobs) < len(seeds):
                async with ordering():
                    yield Dispatched(handle=_Handle.dump(jobs, sending=True))
                    sent = len(jobs) + 1
                    await _append_next(jobs, accepted)
                    yield Dispatched(handle=_Handle.dump(jobs))
        for number, (job, seed) in enumerate(zip(jobs, seeds, strict=True)):
            poller = _Poller(api, job, grace_seconds=grace_seconds)
            async with aclosing(poller.poll(poll_seconds, max_polls)) as statuses:
                async for status in statuses:
                    for event in progress.update(number, status):
                        yield event
            ended = number + 1
            output = await api.result(job, status, seed)
            delivered = number + 1
            yield output
    finally:
        if not keeps_job():
            stops = await _cancel(api, jobs[ended:])
            # What has ended there without its output may be billed, and so may what was sent and not answered.
            unknown = (ended - delivered) + (sent - len(jobs))
            stops += [Stop.STOPPED] * delivered + [Stop.MAY_GO_ON] * unknown
            report_stop(combine(stops))


async def _append_next(jobs: list[JobT], accepted: AsyncGenerator[JobT]) -> None:
    """Append the next job once it is accepted.

    When cancelled meanwhile, wait a little for the answer to the request that was sent, so that its job can be
    cancelled too.
    """
    answer = asyncio.ensure_future(anext(accepted))
    try:
        await asyncio.wait([answer])
    except asyncio.CancelledError:
        await asyncio.wait([answer], timeout=_LATE_ANSWER_SECONDS)
        answer.cancel()  # no effect when it is done
        await asyncio.wait([answer])
        if not answer.cancelled() and answer.exception() is None:
            jobs.append(answer.result())
        raise
    jobs.append(answer.result())


class _Handle(BaseModel):
    """What is stored of the jobs of a task."""

    jobs: tuple[JsonValue, ...] = ()
    """Accepted jobs, in the order of the task's seeds."""
    sending: bool = False
    """Whether a request for the next job may be on its way."""

    @classmethod
    def dump(cls, jobs: Sequence[BaseModel], *, sending: bool = False) -> str:
        """The handle as text."""
        dumped = tuple(job.model_dump(mode="json") for job in jobs)
        return cls(jobs=dumped, sending=sending).model_dump_json()

    @classmethod
    def parse(cls, handle: str) -> Self:
        """The handle of an earlier attempt; an empty one if the text is empty.

        Raises:
            EngineFailedError: the text is invalid.
        """
        try:
            return cls.model_validate_json(handle or "{}")
        except ValueError as error:
            raise _lost() from error

    def read_jobs(self, job_type: type[JobT]) -> list[JobT]:
        """The accepted jobs.

        Raises:
            EngineFailedError: they are invalid.
        """
        try:
            return [job_type.model_validate(job) for job in self.jobs]
        except ValueError as error:
            raise _lost() from error

    def require_answered(self, vendor: str) -> None:
        """Return if every request that was sent has been answered.

        Raises:
            EngineUncertainError: the earlier attempt ended before the answer to one.
        """
        if self.sending:
            raise EngineUncertainError(
                f"the server stopped while a request to {vendor} was on its way; {vendor} may have accepted "
                "and billed it, so it is not sent again; to pay once more, use another request id"
            )


def _lost() -> EngineFailedError:
    return EngineFailedError("the jobs of an earlier attempt are lost: bad handle")


async def _cancel(api: JobApi[JobT, ResponseT], jobs: Sequence[JobT]) -> list[Stop]:
    """Ask the service to cancel the jobs, and return what became of each; of those that fail, that it may go on."""
    asked = [asyncio.ensure_future(api.cancel(job)) for job in jobs]
    if asked:
        _, late = await asyncio.wait(asked, timeout=_CANCEL_TIMEOUT_SECONDS)
        for one in late:
            one.cancel()
        await asyncio.wait(asked)
    return [Stop.MAY_GO_ON if _has_failed(one) else one.result() for one in asked]


def _has_failed(asked: asyncio.Future[Stop]) -> bool:
    return asked.cancelled() or isinstance(asked.exception(), EngineError | TimeoutError)


class _Poller(Generic[JobT, ResponseT]):
    """Polls one job. It is paid for, so only the deadline or its loss ends the polling early."""

    def __init__(
        self,
        api: JobApi[JobT, ResponseT],
        job: JobT,
        *,
        grace_seconds: float,
    ) -> None:
        self._api = api
        self._job = job
        self._delay_scale = api.client.delay_scale
        self._failures = _Failures(grace_seconds * self._delay_scale)

    async def poll(
        self, interval_seconds: float, max_polls: int | None
    ) -> AsyncGenerator[JobStatus[ResponseT]]:
        """Yield the status of the job until it has ended.

        Raises:
            EngineFailedError: the job is lost.
            EngineTimeoutError: the deadline passed, or it has not ended after `max_polls` polls.
        """
        interval, reason = interval_seconds, ""
        vendor, deadline = self._api.client.name, self._api.deadline
        for count in itertools.count(1):
            pause = interval
            last_error: EngineError | None = None
            try:
                async with deadline.timeout(vendor, reason=reason):
                    status = await self._api.status(self._job)
            except EngineUnavailableError as error:
                last_error = error
                pause = max(pause, error.retry_after_seconds * self._delay_scale)
            except EngineTimeoutError as error:
                last_error = error
            except EngineFailedError as error:
                self._failures.add(error)
                last_error = error
            else:
                self._failures.clear()
                yield status
                if status.state is not JobState.ACTIVE:
                    return
                reason = status.timeout_reason
            deadline.require(vendor, because=last_error, reason=reason)
            if count == max_polls:
                why = f": {last_error or reason}" if last_error or reason else ""
                msg = f"the job at {vendor} has not ended after {count} polls{why}"
                raise EngineTimeoutError(msg) from last_error
            await asyncio.sleep(min(pause, deadline.remaining))
            interval = min(interval * _BACKOFF_FACTOR, interval_seconds * _MAX_BACKOFF)


@dataclass(slots=True)
class _Failures:
    """Consecutive polls that found no such job, or no valid response."""

    grace_seconds: float
    _count: int = 0
    _since: float = field(default_factory=time.monotonic)

    def add(self, error: EngineFailedError) -> None:
        """Count one more; raises it if the job counts as lost now."""
        if not self._count:
            self._since = time.monotonic()
        self._count += 1
        in_grace = time.monotonic() - self._since < self.grace_seconds
        if self._count >= _MAX_CONSECUTIVE_ERRORS and not in_grace:
            raise error

    def clear(self) -> None:
        """Forget them: the service knows the job."""
        self._count = 0


class _Progress:
    """Turns statuses into stages and steps; steps of a task never go backwards."""

    def __init__(self, *, steps: int, jobs: int) -> None:
        self._steps = steps
        self._total = steps * jobs
        self._reached = 0
        self._stage: Stage | None = None

    def update(self, number: int, status: JobStatus[ResponseT]) -> Iterator[Stage | Step]:
        """What is new; `number` counts the jobs from 0."""
        if status.stage not in (None, self._stage):
            self._stage = status.stage
            yield status.stage
        done = number * self._steps + min(status.steps, self._steps) if status.steps else 0
        if status.state is JobState.SUCCEEDED and self._reached:
            done = (number + 1) * self._steps
        if done > self._reached:
            self._reached = done
            yield Step(index=done, total=self._total)
