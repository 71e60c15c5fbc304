"""A RunPod endpoint with worker-comfyui: the responses that are used, and the jobs of one task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from atelier_engines.closing import Stop
from atelier_engines.errors import EngineError, EngineFailedError
from atelier_engines.event import Output, Stage
from atelier_engines.task import JSON
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.jobs import JobState, JobStatus, TaskJobs
from atelier_engines.vendors.results import fetch_image
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.runpod.errors import translate_failure, translate_worker_message
from atelier_engines.vendors.runpod.job_input import build_job_input
from atelier_engines.vendors.runpod.worker_output import WorkerOutput

STATES = {
    "IN_QUEUE": JobState.ACTIVE,
    "IN_PROGRESS": JobState.ACTIVE,
    "RUNNING": JobState.ACTIVE,
    "COMPLETED": JobState.SUCCEEDED,
    "FAILED": JobState.FAILED,
    "CANCELLED": JobState.FAILED,
    "TIMED_OUT": JobState.FAILED,
}
"""What the statuses of a job mean; others are taken for active."""
_HEALTH_TIMEOUT_SECONDS = 5.0
_log = logging.getLogger(__name__)


class RunpodJob(BaseModel):
    """An accepted job."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=r"^[\w-]+$")
    """Id of the job."""


class RunpodStatus(BaseModel):
    """The status of a job."""

    status: str
    """IN_QUEUE, IN_PROGRESS, RUNNING, or a final one."""
    output: JsonValue = None
    """The result when COMPLETED; before that, whatever the worker reports as its progress."""
    job_results: JsonValue = None
    """The result, of endpoints that put it beside `output`."""
    error: JsonValue = None
    """Why it failed: text, or JSON in a text."""
    execution_milliseconds: float = Field(default=0.0, alias="executionTime")
    """Time for which a worker has had it; 0 until it has ended there."""


class RunpodAnswer(RunpodStatus):
    """The answer of /runsync: a job, which may have ended."""

    id: str = Field(pattern=r"^[\w-]+$")


class Workers(BaseModel):
    """How many workers of the endpoint are in which state."""

    idle: int = 0
    ready: int = 0
    running: int = 0
    initializing: int = 0
    throttled: int = 0
    unhealthy: int = 0

    @property
    def starting(self) -> bool:
        """Whether a worker is starting while none can take a job."""
        return self.initializing > 0 and not (self.idle or self.ready or self.running)

    def __str__(self) -> str:
        counts = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no workers"


class EndpointHealth(BaseModel):
    """The state of the endpoint."""

    workers: Workers = Workers()


class WorkerProgress(BaseModel):
    """What a custom worker may report by `progress_update`."""

    step: int
    total: int


@dataclass(slots=True)
class _Queue:
    """What is known about the queue while a job waits in it."""

    workers: Workers = field(default_factory=Workers)
    """State of the endpoint's workers."""
    starting: bool = False
    """Whether a worker has been starting since the job began to wait."""
    waiting: set[str] = field(default_factory=set)
    """Ids of the jobs that were in the queue when they were polled last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunpodJobs(TaskJobs[RunpodConfig]):
    """The jobs of one task; see JobApi."""

    job_type: ClassVar[type[RunpodJob]] = RunpodJob

    workflows: WorkflowSet
    """ComfyUI workflows of the engine."""
    endpoint: str
    """Id of the endpoint that runs the task."""
    _queue: _Queue = field(default_factory=_Queue)
    _answers: dict[str, RunpodAnswer] = field(default_factory=dict)
    """Of /runsync, by the id of the job: it has ended."""

    async def submit(self, seeds: Sequence[int]) -> AsyncGenerator[RunpodJob]:
        """See JobApi.submit.

        Raises:
            InvalidTaskError: the images are too large for one request.
        """
        if not seeds:
            return
        seconds = self.config.timeout_seconds
        build = partial(
            build_job_input,
            self.task,
            self.workflows,
            timeout_seconds=seconds,
            max_bytes=self.config.max_request_bytes,
        )
        job_input = await result_from_thread(build)
        for seed in seeds:
            body = await result_from_thread(partial(job_input.body, seed))
            yield await self._submit_one(body)

    async def _submit_one(self, body: dict[str, JSON]) -> RunpodJob:
        """Submit a job; with `sync_wait_seconds` its answer is its end, if it ends within that time."""
        path, wait = f"/{self.endpoint}", self.config.sync_wait_seconds
        if wait is None:
            return await self.client.submit_once("POST", f"{path}/run", json=body, model=RunpodJob)
        path = f"{path}/runsync?wait={int(wait * 1000)}"
        answer = await self.client.submit_once("POST", path, json=body, model=RunpodAnswer)
        if STATES.get(answer.status, JobState.ACTIVE) is not JobState.ACTIVE:
            self._answers[answer.id] = answer
        return RunpodJob(id=answer.id)

    async def status(self, job: RunpodJob) -> JobStatus[RunpodStatus]:
        """See JobApi.status."""
        found: RunpodStatus | None = self._answers.pop(job.id, None)
        if found is None:
            path = self._job_path("status", job)
            found = await self.client.request("GET", path, model=RunpodStatus)
        if found.status == "IN_QUEUE":
            self._queue.waiting.add(job.id)
            return await self._waiting_status(found)
        self._queue.waiting.discard(job.id)
        self._queue.starting = False
        state = STATES.get(found.status)
        if state is None:
            _log.warning("unknown_job_status", extra={"vendor": "runpod", "status": found.status})
            state = JobState.ACTIVE
        if state is not JobState.ACTIVE:
            return JobStatus(response=found, state=state)
        stage = Stage(name="generate")
        return JobStatus(response=found, stage=stage, steps=self._count_steps(found))

    async def result(self, job: RunpodJob, status: JobStatus[RunpodStatus], seed: int) -> Output:
        """See JobApi.result.

        Raises:
            InvalidTaskError: the worker cannot run the workflow.
            ModelMissingError: the worker lacks a file that the workflow names.
            OutOfMemoryError: the image is too large for the worker.
            EngineFailedError: the job failed or was cancelled, or its image is gone or invalid.
            EngineTimeoutError: the deadline passed, ours or the service's.
        """
        if status.state is JobState.FAILED:
            raise translate_failure(
                status.response.status, status.response.error, status.response.output
            )
        source = _find_image(job, status.response)
        media = await fetch_image(self.client, source, self.task, self.deadline)
        return Output(media=media, seed=seed)

    async def cancel(self, job: RunpodJob) -> Stop:
        """See JobApi.cancel. A worker that has the job may go on with it, and bill it, all the same.

        The service says CANCELLED of every job, so the status before and the time after tell whether it was begun.
        """
        answer = await self.client.request(
            "POST", self._job_path("cancel", job), model=RunpodStatus
        )
        if STATES.get(answer.status) is JobState.SUCCEEDED:
            return Stop.ENDED
        if answer.status != "CANCELLED" or job.id not in self._queue.waiting:
            return Stop.MAY_GO_ON
        after = await self.client.request("GET", self._job_path("status", job), model=RunpodStatus)
        untouched = after.status == "CANCELLED" and not after.execution_milliseconds
        return Stop.NEVER_STARTED if untouched else Stop.MAY_GO_ON

    async def _waiting_status(self, found: RunpodStatus) -> JobStatus[RunpodStatus]:
        queue = self._queue
        queue.starting = queue.starting or queue.workers.starting
        stage = Stage(name="start" if queue.starting else "queued")
        with suppress(EngineError, TimeoutError):  # it only explains
            async with asyncio.timeout(_HEALTH_TIMEOUT_SECONDS):
                queue.workers = (await request_health(self.client, self.endpoint)).workers
        reason = f"no worker took the job; the endpoint has {queue.workers}"
        return JobStatus(response=found, stage=stage, timeout_reason=reason)

    def _count_steps(self, found: RunpodStatus) -> int:
        """Steps that are done, as custom workers may report; worker-comfyui reports none."""
        try:
            progress = WorkerProgress.model_validate(found.output)
        except ValidationError:
            return 0
        counts = 0 < progress.step <= progress.total == (self.task.steps or 0)
        return progress.step if counts else 0

    def _job_path(self, action: str, job: RunpodJob) -> str:
        return f"/{self.endpoint}/{action}/{job.id}"


async def request_health(client: VendorClient, endpoint: str) -> EndpointHealth:
    """The state of the endpoint; raises EngineError."""
    return await client.request("GET", f"/{endpoint}/health", model=EndpointHealth)


def _find_image(job: RunpodJob, status: RunpodStatus) -> str:
    """The image of a job that has succeeded: base64 or a URL."""
    output = WorkerOutput.read(status.job_results or status.output)
    if output.images:
        for message in output.errors:
            _log.warning("worker_error_beside_image", extra={"vendor": "runpod", "error": message})
        return output.images[0]
    if output.errors:
        raise translate_worker_message("; ".join(filter(None, output.errors)))
    raise EngineFailedError(
        f"the job {job.id} at runpod returned no image; the workflow needs a SaveImage node"
    )
