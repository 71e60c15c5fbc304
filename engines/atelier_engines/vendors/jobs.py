"""Jobs at remote services, one an image: submitted at most once, polled until they end, found again by the handle."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel

from atelier_engines.closing import Stop, keeps_job, ordering, report_stop
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    JobStoppedError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.task import ImageTask
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.orders import Orders

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

    @property
    def cancellable(self) -> bool:
        """Whether the service has a request to cancel a job."""

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

    cancellable: ClassVar[bool] = True
    """See JobApi.cancellable."""

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
    `task.resume`, the jobs of the earlier attempt are polled, and only those that are missing are submitted: also one
    that its service was told to cancel, once the service says that it was, or does not know it any more. What a closed
    run leaves for another is in `Closing.left`: every job that has ended, or may go on.

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
    count = len(api.task.seeds)
    progress = _Progress(steps=api.steps, jobs=count)
    orders = Orders.parse(api.task.resume, api.job_type, count)
    follower = _Follower(
        api=api,
        orders=orders,
        progress=progress,
        poll_seconds=poll_seconds,
        grace_seconds=grace_seconds,
        max_polls=max_polls,
    )
    try:
        yield Stage(name="submit")
        orders.require_answered(api.client.name)
        async with aclosing(_order_missing(api, orders)) as dispatched:
            async for order in dispatched:
                yield order
        for number in range(count):
            async with aclosing(follower.follow(number)) as events:
                async for event in events:
                    yield event
    finally:
        if not keeps_job():
            stops = await _cancel(api, orders.running)
            report_stop(*orders.leave(stops, told=api.cancellable))


async def _order_missing(
    api: JobApi[JobT, ResponseT], orders: Orders[JobT]
) -> AsyncGenerator[Dispatched]:
    """Submit each job that is missing, and yield what is to be stored before and after."""
    missing = orders.missing
    async with aclosing(api.submit([api.task.seeds[number] for number in missing])) as accepted:
        for number in missing:
            async with ordering():
                yield Dispatched(handle=orders.dump(sending=True))
                orders.sending = True
                await _receive_next(accepted, orders, number)
                yield Dispatched(handle=orders.dump())


async def _receive_next(accepted: AsyncGenerator[JobT], orders: Orders[JobT], number: int) -> None:
    """Record the next job once it is accepted.

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
        orders.record_answer(number, answer)
        raise
    orders.record_answer(number, answer)
    answer.result()


async def _cancel(api: JobApi[JobT, ResponseT], jobs: Mapping[int, JobT]) -> Mapping[int, Stop]:
    """Ask the service to cancel the jobs, and return what became of each; of those that fail, that it may go on."""
    asked = {number: asyncio.ensure_future(api.cancel(job)) for number, job in jobs.items()}
    if asked:
        _, late = await asyncio.wait(asked.values(), timeout=_CANCEL_TIMEOUT_SECONDS)
        for one in late:
            one.cancel()
        await asyncio.wait(asked.values())
    return {
        number: Stop.MAY_GO_ON if _has_failed(one) else one.result()
        for number, one in asked.items()
    }


def _has_failed(asked: asyncio.Future[Stop]) -> bool:
    return asked.cancelled() or isinstance(asked.exception(), EngineError | TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Follower(Generic[JobT, ResponseT]):
    """Follows the jobs of a task to their images."""

    api: JobApi[JobT, ResponseT]
    orders: Orders[JobT]
    progress: _Progress
    poll_seconds: float
    grace_seconds: float
    max_polls: int | None

    async def follow(self, number: int) -> AsyncGenerator[Event]:
        """Yield the progress of that job, and its image; it is ordered anew if it was stopped as it was told to be."""
        while True:
            job = self.orders.jobs[number]
            if job is None:  # it was stopped
                async with aclosing(_order_missing(self.api, self.orders)) as dispatched:
                    async for order in dispatched:
                        yield order
                continue
            try:
                async with aclosing(self._poll(job)) as statuses:
                    async for status in statuses:
                        for event in self.progress.update(number, status):
                            yield event
                self.orders.ended.add(number)
                output = await self.api.result(job, status, self.api.task.seeds[number])
            except EngineFailedError as error:
                known = number in self.orders.ended  # by the service; if not, the job is lost
                if known and not isinstance(error, JobStoppedError):
                    raise
                if not self.orders.forget(number):
                    raise
                continue
            self.orders.delivered.add(number)
            yield output
            return

    def _poll(self, job: JobT) -> AsyncGenerator[JobStatus[ResponseT]]:
        poller = _Poller(self.api, job, grace_seconds=self.grace_seconds)
        return poller.poll(self.poll_seconds, self.max_polls)


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
