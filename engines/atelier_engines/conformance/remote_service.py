"""What the suite for remote engines needs to know of a service: a fake one, and the engine that speaks to it."""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

from aiohttp import web

from atelier_engines.conformance.fake_server import (
    Handler,
    ResponseQueue,
    drop_connection,
    respond,
)
from atelier_engines.engine import Engine
from atelier_engines.event import Dispatched, Event, Output
from atelier_engines.task import ImageTask

ResultT = TypeVar("ResultT")
JobT = TypeVar("JobT", bound="FakeJob")
ServiceT = TypeVar("ServiceT", bound="FakeService")


def scripted(
    queue: str,
) -> Callable[
    [Callable[[ServiceT, web.Request], Awaitable[web.StreamResponse]]],
    Callable[[ServiceT, web.Request], Awaitable[web.StreamResponse]],
]:
    """Decorator of a fake service's handler: the queue of that name replaces its response."""

    def decorate(
        handle: Callable[[ServiceT, web.Request], Awaitable[web.StreamResponse]],
    ) -> Callable[[ServiceT, web.Request], Awaitable[web.StreamResponse]]:
        @functools.wraps(handle)
        async def scripted_handle(service: ServiceT, request: web.Request) -> web.StreamResponse:
            service.record(queue, request)
            responses: ResponseQueue = getattr(service, queue)
            handler = responses.next_handler()
            if handler is not None:
                return await handler(request)
            answer = await handle(service, request)
            if queue == "submits" and service.answer_seconds:
                await asyncio.sleep(service.answer_seconds)
            return answer

        return scripted_handle

    return decorate


@dataclass(slots=True, kw_only=True)
class FakeService(ABC):
    """A fake remote service that works, unless one of its queues says otherwise."""

    submits: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to paid requests."""
    polls: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to requests for the status of a job."""
    cancels: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to requests to cancel a job."""
    downloads: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to downloads of results."""
    answer_seconds: float = 0.0
    """Seconds between accepting a paid request and answering it."""
    leaks: int = 0
    """Number of downloads and uploads that came with the API key, which they must not."""

    running: Handler | None = None
    """Poll response for a running job; None where jobs are not polled."""
    unknown_status: Handler | None = None
    """Poll response with a status that the service does not have today; None where there is none."""
    unknown_job: Handler = field(default_factory=lambda: respond(404, {}))
    """Poll response for a job that the service does not know."""

    task: ClassVar[ImageTask]
    """A quick task that the service can do."""
    api_key: ClassVar[str] = ""
    """The only key that the service accepts; empty where it has none."""
    rejected_key_message: ClassVar[str] = ""
    """What the service says about any other key."""
    resumable: ClassVar[bool] = True
    """Whether a job is found again after a restart; if not, the task must not be sent a second time."""
    batched: ClassVar[bool] = False
    """Whether all images of a task are submitted before the handle is stored, and cancelled by one request."""
    cancellable: ClassVar[bool] = True
    """Whether the service can cancel jobs."""
    leaves_results: ClassVar[bool] = True
    """Whether results stay at the service when a run is closed, for another one that is to continue it."""
    downloadable: ClassVar[bool] = True
    """Whether results are downloaded by URL."""
    specific_statuses: ClassVar[frozenset[int]] = frozenset()
    """HTTP statuses of rejections that the service uses in its own way; tests of its own cover them."""

    @abstractmethod
    def engine(self, **settings: object) -> Engine:
        """An engine of this service with short pauses and those settings, not started."""

    def reject(self, status: int, message: str) -> Handler:
        """A rejection in the shape of the service."""
        return respond(status, {"error": message})

    def record(self, queue: str, request: web.Request) -> None:
        """Count a request before its response; `queue` names the queue that scripts it."""
        if queue == "downloads" and self.api_key and self.api_key in str(request.headers):
            self.leaks += 1

    @property
    @abstractmethod
    def accepted(self) -> int:
        """Number of paid requests that were accepted."""

    @property
    def seeds(self) -> list[int] | None:
        """Seeds of the accepted requests, in order; None where the fake service does not record them."""
        return None

    def flag_next(self) -> ImageTask | None:
        """Refuse the content of the next task, which is returned; None where the service checks nothing."""
        return None

    @property
    def cancelled(self) -> int:
        """Number of cancellations that were requested."""
        return 0

    @property
    def cancels_by_job(self) -> list[int] | None:
        """Number of requested cancellations of each job; None where the fake service does not record it."""
        return None

    @property
    def polled(self) -> int:
        """Number of polls."""
        return 0

    @property
    def billed(self) -> int:
        """Number of jobs that are accepted and not cancelled."""
        return self.accepted

    def forget_jobs(self) -> None:
        """Forget all jobs, as a service does when they expire."""
        raise NotImplementedError

    def stop_jobs(self) -> None:
        """Cancel all jobs, as by a request that has arrived."""
        raise NotImplementedError

    def reset(self) -> None:
        """Return to regular responses and forget everything."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, ResponseQueue):
                value.clear()
        self.leaks, self.answer_seconds = 0, 0.0


@dataclass(slots=True, kw_only=True)
class FakeJob:
    """A job that a fake service has accepted, and that is paid for."""

    body: dict[str, Any] = field(default_factory=dict)
    """Body of the request."""
    polls: int = 0
    """Number of regular responses to polls."""
    asked: int = 0
    """Number of polls, whatever the response."""
    cancels: int = 0
    """Number of requested cancellations, whatever the response."""
    cancelled: bool = False
    """Whether a cancellation was accepted."""


@dataclass(slots=True, kw_only=True)
class FakeJobService(FakeService, Generic[JobT]):
    """A fake service with jobs that are submitted, polled and cancelled by id."""

    jobs: dict[str, JobT] = field(default_factory=dict)
    """Accepted jobs by id."""

    def record(self, queue: str, request: web.Request) -> None:
        """See FakeService.record."""
        FakeService.record(self, queue, request)
        job = self.jobs.get(request.match_info.get("id") or request.query.get("id", ""))
        if job is not None and queue == "polls":
            job.asked += 1
        if job is not None and queue == "cancels":
            job.cancels += 1

    @property
    def accepted(self) -> int:
        """See FakeService.accepted."""
        return len(self.jobs)

    @property
    def seeds(self) -> list[int] | None:
        """See FakeService.seeds."""
        seeds = [job.body.get("seed") for job in self.jobs.values()]
        return None if None in seeds else [seed for seed in seeds if seed is not None]

    @property
    def cancelled(self) -> int:
        """See FakeService.cancelled."""
        return sum(self.cancels_by_job)

    @property
    def cancels_by_job(self) -> list[int]:
        """See FakeService.cancels_by_job."""
        return [job.cancels for job in self.jobs.values()]

    @property
    def polled(self) -> int:
        """See FakeService.polled."""
        return sum(job.asked for job in self.jobs.values())

    @property
    def billed(self) -> int:
        """See FakeService.billed."""
        return sum(not job.cancelled for job in self.jobs.values())

    def forget_jobs(self) -> None:
        """See FakeService.forget_jobs."""
        self.jobs.clear()

    def stop_jobs(self) -> None:
        """See FakeService.stop_jobs."""
        for job in self.jobs.values():
            job.cancelled = True

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeService.reset(self)
        self.jobs.clear()


@asynccontextmanager
async def run_engine(service: FakeService, **settings: object) -> AsyncIterator[Engine]:
    """The service's engine, started, and stopped at the end."""
    engine = service.engine(**settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def collect_events(
    service: FakeService, task: ImageTask | None = None, /, **settings: object
) -> list[Event]:
    """All events of the task, or of the service's own one."""
    task = task or service.task
    async with run_engine(service, **settings) as engine, aclosing(engine.run(task)) as events:
        return [event async for event in events]


async def collect_outputs(
    service: FakeService, task: ImageTask | None = None, /, **settings: object
) -> list[Output]:
    """All outputs of the task, or of the service's own one."""
    events = await collect_events(service, task, **settings)
    return [event for event in events if isinstance(event, Output)]


async def crash(service: FakeService, task: ImageTask | None = None, *, accepted: int = 1) -> str:
    """The last handle of an engine that crashes after `accepted` jobs; its cancellations do not arrive."""
    task, handle = task or service.task, ""
    service.cancels.always = drop_connection
    async with run_engine(service) as engine, aclosing(engine.run(task)) as events:
        async for event in events:
            if isinstance(event, Dispatched) and service.accepted >= accepted:
                handle = event.handle
                break
    service.cancels.clear()
    return handle


def wait(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of `work`, in an event loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(work)
